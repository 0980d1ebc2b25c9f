//! A file or directory to a guest.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::SplitStream;
use hypeman_session::Guest;
use hypeman_session::copy::{From, Options};
use hypeman_session::in_background;
use hypeman_wire::files::{CopyFrame, CopyRequest};
use tar::{Builder, EntryType, Header};

use super::super::guest::next;
use super::{error, word};
use crate::app::App;

/// Permissions of a file and of a directory, when the client names none.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Permissions in a request, without the type.
const PERMISSIONS: u32 = 0o7777;

/// Takes a file or directory, to its end, and puts it into the guest; the last frame, or `None`
/// when the client has left. An error is told after the end only, since clients read nothing
/// before.
pub(super) async fn upload(
    app: &App,
    guest: &Guest,
    request: &CopyRequest,
    from: &mut SplitStream<WebSocket>,
) -> Option<CopyFrame> {
    // Its size has to be known before the guest is told.
    let mut received = Received { file: tempfile::tempfile_in(app.host().data_dir().path()), size: 0 };
    loop {
        match next(from).await {
            Some(Message::Binary(bytes)) => {
                app.metrics().copy_bytes(word(request.direction), bytes.len());
                received.write(&bytes);
            }
            Some(Message::Text(text)) => match serde_json::from_str(&text) {
                Ok(CopyFrame::End { .. }) => break,
                _ => return Some(error("a frame that is neither data nor the end", &request.guest_path)),
            },
            Some(_) => {}
            None => return None,
        }
    }
    let size = received.size;
    let written = match received.file {
        Ok(file) => put(guest, request, file, size).await,
        Err(error) => Err(error.to_string()),
    };
    let bytes_written = if written.is_ok() { size } else { 0 };
    Some(CopyFrame::Result { success: written.is_ok(), error: written.err(), bytes_written })
}

/// A file as far as it has come. After an error the rest is read all the same.
struct Received {
    file: std::io::Result<File>,
    size: u64,
}

impl Received {
    fn write(&mut self, bytes: &[u8]) {
        let written = self.file.as_mut().map(|file| file.write_all(bytes));
        if let Ok(Err(error)) = written {
            self.file = Err(error);
        }
        self.size += bytes.len() as u64;
    }
}

/// Puts a file or directory into the guest, with the directories above it that are missing.
async fn put(guest: &Guest, request: &CopyRequest, mut file: File, size: u64) -> Result<(), String> {
    let told = |error: hypeman_session::Error| hypeman_files::with_causes(&error);
    let path = request.guest_path.trim_end_matches('/');
    let mut names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let Some(last) = names.pop() else { return Err("the path names no file".to_owned()) };
    if last == ".." {
        return Err("the path ends with ..".to_owned());
    }
    // The deepest directory that is there.
    let mut missing = vec![last];
    let directory = loop {
        let directory = format!("/{}", names.join("/"));
        let found = guest.stat(&directory, true).await.map_err(told)?;
        match (found.error, found.exists, names.pop()) {
            (Some(error), _, _) => return Err(error),
            (None, true, _) if found.is_dir => break directory,
            (None, true, _) => return Err(format!("{directory} is no directory")),
            (None, false, Some("..")) | (None, false, None) => return Err(format!("{directory} is missing")),
            (None, false, Some(name)) => missing.push(name),
        }
    };
    let target = guest.stat(path, false).await.map_err(told)?;
    if target.exists && target.is_dir != request.is_dir {
        let kind = if target.is_dir { "a directory" } else { "no directory" };
        return Err(format!("{path} is there, and is {kind}"));
    }
    file.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let missing: Vec<String> = missing.into_iter().rev().map(str::to_owned).collect();
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let request = request.clone();
    let packed = in_background(move || pack(writer, &missing, &request, file, size));
    let options = Options { archive: true, follow_link: false };
    let sent = guest.send(From::Stream(Box::new(reader)), &directory, options, Box::new(|_| {})).await;
    sent.map_err(told)?;
    packed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Writes a file or directory as a tar stream, with the directories above it.
fn pack(
    stream: impl Write,
    names: &[String],
    request: &CopyRequest,
    file: impl Read,
    size: u64,
) -> std::io::Result<()> {
    let mut archive = Builder::new(stream);
    let header = |kind, mode: u32, size| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode & PERMISSIONS);
        header.set_uid(u64::from(request.uid));
        header.set_gid(u64::from(request.gid));
        header.set_size(size);
        header.set_mtime(jiff::Timestamp::now().as_second().unsigned_abs());
        header
    };
    let empty = std::io::empty;
    for depth in 1..names.len() {
        let mut directory = header(EntryType::Directory, DIRECTORY_MODE, 0);
        archive.append_data(&mut directory, names[..depth].join("/"), empty())?;
    }
    let mode = |usual| if request.mode == 0 { usual } else { request.mode };
    let name = names.join("/");
    match request.is_dir {
        true => {
            archive.append_data(&mut header(EntryType::Directory, mode(DIRECTORY_MODE), 0), name, empty())?
        }
        false => archive.append_data(&mut header(EntryType::Regular, mode(FILE_MODE), size), name, file)?,
    }
    archive.into_inner()?.flush()
}
