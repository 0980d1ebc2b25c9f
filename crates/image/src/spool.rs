//! A layer, decompressed and verified, in a file in which its entries can be found again.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hypeman_files::AtPath;

use crate::compression::decompressed;
use crate::digest::{self, Hashing};
use crate::error::{Result, content};
use crate::limits::Room;
use crate::progress::Progress;

/// A layer as it came, and what was promised of it.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    /// Its name in errors.
    pub(crate) what: String,
    /// Where it lies.
    pub(crate) at: Span,
    /// Digest of the file; absent where none was promised.
    pub(crate) digest: Option<String>,
    /// Digest of the uncompressed tar; absent where none was promised.
    pub(crate) diff_id: Option<String>,
}

impl Blob {
    /// Whether a digest tells that it is whole.
    pub(crate) fn is_promised(&self) -> bool {
        self.digest.is_some() || self.diff_id.is_some()
    }
}

/// A file, or a part of one.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// The file; for errors only, if it is open already.
    pub(crate) path: PathBuf,
    /// The open file, which may have no name.
    pub(crate) file: Option<Rc<File>>,
    /// First byte and length; `None` for all of it.
    pub(crate) part: Option<(u64, u64)>,
}

impl Span {
    /// All of a file.
    pub(crate) fn whole(path: PathBuf) -> Span {
        Span { path, file: None, part: None }
    }

    /// Opens it, and tells its length in bytes.
    pub(crate) fn open(&self) -> Result<(std::io::Take<File>, u64)> {
        let mut file = match &self.file {
            Some(file) => file.try_clone(), // with the same position: one is read at a time
            None => File::open(&self.path),
        }
        .at(&self.path)?;
        match self.part {
            Some((start, length)) => {
                file.seek(SeekFrom::Start(start)).at(&self.path)?;
                Ok((file.take(length), length))
            }
            // It may be a pipe, in which nothing can be sought.
            None => {
                let length = file.metadata().at(&self.path)?.len();
                Ok((file.take(u64::MAX), length))
            }
        }
    }
}

/// A decompressed layer.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// The tar.
    pub(crate) file: File,
    /// Its digest.
    pub(crate) diff_id: String,
}

/// Decompresses a layer into a nameless file in `directory`, where it takes some of the `room`, and
/// verifies what was promised of it.
pub(crate) fn spool(
    blob: &Blob,
    directory: &Path,
    room: &mut Room,
    progress: &dyn Progress,
) -> Result<Spooled> {
    let (file, length) = blob.at.open()?;
    progress.start(&blob.what, Some(length));
    let mut compressed = Hashing::new(Counting { inner: BufReader::new(file), progress });
    let mut spooled = Hashing::new(tempfile::tempfile_in(directory).at(directory)?);
    // A write that fails is the disk's fault, a read that fails the layer's.
    let mut reader = decompressed(&mut compressed).map_err(|error| content(&blob.what, error))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = reader
            .read(&mut buffer)
            .map_err(|error| content(&blob.what, format!("{error}; is it cut off?")))?;
        if length == 0 {
            break;
        }
        room.take(&blob.what, length as u64)?;
        spooled.write_all(&buffer[..length]).at(directory)?;
    }
    drop(reader);
    // The digest includes the bytes after the end of a compressed stream.
    std::io::copy(&mut compressed, &mut std::io::sink()).at(&blob.at.path)?;
    if let Some(expected) = &blob.digest {
        digest::verify(&blob.what, expected, &compressed.finish())?;
    }
    let (mut file, diff_id) = spooled.into_parts();
    if let Some(expected) = &blob.diff_id {
        digest::verify(&format!("{} (uncompressed)", blob.what), expected, &diff_id)?;
    }
    file.rewind().at(directory)?;
    Ok(Spooled { file, diff_id })
}

/// Tells how far the reading is.
struct Counting<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.progress.is_cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        let length = self.inner.read(buffer)?;
        self.progress.advance(length as u64);
        Ok(length)
    }
}
