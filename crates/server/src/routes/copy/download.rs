//! A file or a tree from a guest.

use std::io::{PipeReader, Read};

use axum::body::Bytes;
use axum::extract::ws::Message;
use futures_util::SinkExt;
use hypeman_session::copy::{Into, Options};
use hypeman_session::{Guest, in_background};
use hypeman_wire::files::{CopyFrame, CopyRequest, FileHeader};
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc;

use super::super::guest::{Frames, send_document};
use super::error;
use crate::app::App;

/// Size of a frame with data, in bytes: upstream's.
const PIECE: usize = 32 << 10;

/// Number of frames that wait for the client.
const MOST_WAITING: usize = 16;

/// Permissions that clients take.
const PERMISSIONS: u32 = 0o777;

/// What is to be sent.
enum Part {
    /// A file begins.
    File(FileHeader),
    /// Bytes of it.
    Data(Bytes),
    /// Another name of a file that was sent, whose bytes have to be fetched.
    Again(FileHeader),
}

/// Sends a tree; the last frame, or `None` when the client has left.
pub(super) async fn download(
    app: &App,
    guest: &Guest,
    request: &CopyRequest,
    frames: &mut Frames,
) -> Option<CopyFrame> {
    let mut sending = Sending { app, frames, is_begun: false };
    let sent = send_tree(guest, request, &mut sending).await;
    match sent {
        Ok(()) if sending.is_begun => Some(CopyFrame::End { is_final: true }),
        Ok(()) => Some(error("nothing was sent", &request.guest_path)),
        Err(Broken::Left) => None,
        Err(Broken::Failed(reason)) => Some(error(&reason, &request.guest_path)),
    }
}

/// Why a copy broke off.
enum Broken {
    /// The client has left.
    Left,
    /// Something failed.
    Failed(String),
}

/// The frames of a copy. A file's end is sent when it is known whether it was the last one.
struct Sending<'a> {
    app: &'a App,
    frames: &'a mut Frames,
    is_begun: bool,
}

impl Sending<'_> {
    async fn send(&mut self, part: Part) -> Result<(), Broken> {
        let is_sent = match part {
            Part::File(header) | Part::Again(header) => {
                let end = CopyFrame::End { is_final: false };
                let ended = !self.is_begun || send_document(self.frames, &end).await;
                self.is_begun = true;
                ended && send_document(self.frames, &CopyFrame::Header(header)).await
            }
            Part::Data(bytes) => {
                self.app.metrics().copy_bytes("from", bytes.len());
                let mut is_sent = true;
                for piece in pieces(bytes) {
                    is_sent = is_sent && self.frames.send(Message::Binary(piece)).await.is_ok();
                }
                is_sent
            }
        };
        if is_sent { Ok(()) } else { Err(Broken::Left) }
    }
}

/// Cuts bytes so that no frame can be taken for a control frame: upstream's npm client tries to
/// parse as JSON whatever begins with a bracket. Opening brackets alone are no JSON.
fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    let brackets = bytes.iter().take_while(|byte| matches!(byte, b'{' | b'[')).count();
    let rest = bytes.slice(brackets..);
    [bytes.slice(..brackets), rest].into_iter().filter(|piece| !piece.is_empty())
}

async fn send_tree(guest: &Guest, request: &CopyRequest, sending: &mut Sending<'_>) -> Result<(), Broken> {
    let mut again = Vec::new();
    let path = &request.guest_path;
    send_archive(guest, path, request.follow_links, sending, &mut |part| match part {
        Part::Again(header) => {
            again.push(header);
            None
        }
        part => Some(part),
    })
    .await?;
    // The tree's own path, to which the names in it are relative.
    let above = path.trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above);
    for header in again {
        let mut is_first = true;
        let name = header.path.clone();
        send_archive(guest, &format!("{above}/{name}"), false, sending, &mut |part| match part {
            Part::File(found) if is_first => {
                is_first = false;
                Some(Part::File(FileHeader { path: name.clone(), ..found }))
            }
            part => Some(part),
        })
        .await?;
    }
    Ok(())
}

/// Sends what is at a path in the guest, as far as `chosen` leaves it.
async fn send_archive(
    guest: &Guest,
    path: &str,
    follow_link: bool,
    sending: &mut Sending<'_>,
    chosen: &mut (impl FnMut(Part) -> Option<Part> + Send),
) -> Result<(), Broken> {
    let failed = |reason: String| Broken::Failed(reason);
    let (reader, writer) = std::io::pipe().map_err(|error| failed(error.to_string()))?;
    let (parts, mut waiting) = mpsc::channel(MOST_WAITING);
    let unpacked = in_background(move || unpack(reader, &parts));
    let options = Options { archive: true, follow_link };
    let fetching = async {
        let fetched = guest.fetch(path, Into::Stream(Box::new(writer)), options, Box::new(|_| {})).await;
        fetched.map_err(|error| failed(hypeman_files::with_causes(&error)))
    };
    let forwarding = async {
        while let Some(part) = waiting.recv().await {
            if let Some(part) = chosen(part) {
                sending.send(part).await?;
            }
        }
        Ok(())
    };
    let (fetched, forwarded) = tokio::join!(fetching, forwarding);
    forwarded?;
    fetched?;
    let unpacked = unpacked.await.map_err(|error| failed(error.to_string()))?;
    unpacked.map_err(|error| failed(error.to_string()))
}

/// Reads a tar stream. What is no file, directory or link is left out.
fn unpack(stream: PipeReader, parts: &mpsc::Sender<Part>) -> std::io::Result<()> {
    let mut archive = Archive::new(stream);
    let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let header = header(&entry)?;
        match kind {
            EntryType::Link => parts.blocking_send(Part::Again(header)).map_err(gone)?,
            EntryType::Directory | EntryType::Symlink => {
                parts.blocking_send(Part::File(header)).map_err(gone)?;
            }
            EntryType::Regular | EntryType::Continuous => {
                parts.blocking_send(Part::File(header)).map_err(gone)?;
                while let Some(piece) = read(&mut entry)? {
                    parts.blocking_send(Part::Data(piece)).map_err(gone)?;
                }
            }
            _ => {}
        }
    }
    // The padding behind the archive's end, without which its sender breaks off.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map(drop)
}

fn header(entry: &Entry<'_, PipeReader>) -> std::io::Result<FileHeader> {
    let kind = entry.header().entry_type();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let is_symlink = kind == EntryType::Symlink;
    Ok(FileHeader {
        path: text(&entry.path_bytes()).trim_end_matches('/').to_owned(),
        mode: entry.header().mode()? & PERMISSIONS,
        is_dir: kind == EntryType::Directory,
        is_symlink,
        link_target: entry
            .link_name_bytes()
            .filter(|_| is_symlink)
            .map(|name| text(&name))
            .unwrap_or_default(),
        size: if kind == EntryType::Regular { entry.size() } else { 0 },
        mtime: entry.header().mtime()?,
        uid: entry.header().uid()?,
        gid: entry.header().gid()?,
    })
}

/// The next piece of a file; `None` at its end.
fn read(file: &mut impl Read) -> std::io::Result<Option<Bytes>> {
    let mut piece = Vec::with_capacity(PIECE);
    file.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(Some(piece).filter(|piece| !piece.is_empty()).map(Bytes::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frame_of_a_file_is_json_that_begins_with_a_bracket() {
        for text in
            [r#"{"type":"end","final":true}"#, "[[1]]", "{", "[{[{", "{}", "plain", "a{}", r#"[{"a":1}]{}"#]
        {
            let cut: Vec<Bytes> = pieces(Bytes::from(text)).collect();
            assert_eq!(cut.concat(), text.as_bytes());
            for piece in cut {
                let looks_like_json = matches!(piece[0], b'{' | b'[');
                assert!(
                    !looks_like_json || serde_json::from_slice::<serde_json::Value>(&piece).is_err(),
                    "{text}"
                );
            }
        }
    }
}
