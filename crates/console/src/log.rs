//! The append-only log that rotates itself.
//!
//! Every write goes through an O_APPEND descriptor, so a file that someone truncates goes on at its
//! new end and never gets a hole. The file's size and identity are asked of the system before each
//! write and never remembered, so what others do to the files is noticed by itself.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::chain::{self, Identity};
use crate::place;
use crate::times::TimesWriter;

/// Limits of a log: its files never take more than `max_size * (max_files + 1)` bytes in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest size of one file in bytes; at least 1.
    pub max_size: u64,
    /// Number of rotated files that are kept beside the current one.
    pub max_files: u32,
}

/// A write that could not be finished: a full disk, most often.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Error {
    /// The log.
    pub path: PathBuf,
    /// How many bytes of the write are in the log; the others are not.
    pub written: usize,
    /// The system's error.
    pub source: std::io::Error,
}

/// Result of the log.
pub type Result<T> = std::result::Result<T, Error>;

/// Keeps account of what is written, for the successor of a killed process.
pub trait Account {
    /// So many bytes are about to be written to the end of this file.
    fn about_to_write(&self, file: FileState, length: usize);

    /// So many of them are in the log now.
    fn has_written(&self, length: usize);
}

/// No account.
impl Account for () {
    fn about_to_write(&self, _: FileState, _: usize) {}

    fn has_written(&self, _: usize) {}
}

/// A file of a log at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// In bytes.
    pub(crate) size: u64,
}

impl FileState {
    pub(crate) fn of(metadata: &Metadata) -> FileState {
        FileState { device: metadata.dev(), inode: metadata.ino(), size: metadata.len() }
    }
}

/// A log and its rotated files. There must be only one writer.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    limits: Limits,
    file: File,
    /// All bytes that were ever written, as far as is known.
    end: u64,
    /// How many bytes the file had after the last write.
    size: u64,
    times: TimesWriter,
    /// Rotations that [`Log::take_rotations`] has not told yet.
    rotations: u64,
}

impl Log {
    /// Opens the log at `path`, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, limits: Limits) -> Result<Log> {
        let opened = open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) =
            opened.map_err(|source| Error { path: path.to_owned(), written: 0, source })?;
        let start = place::find(&file).unwrap_or_else(|| {
            place::leave(&file, 0);
            0
        });
        let (size, identity) = (metadata.len(), Identity::of(&metadata));
        let (end, times) = (start.saturating_add(size), TimesWriter::open(path, identity));
        Ok(Log { path: path.to_owned(), limits, file, end, size, times, rotations: 0 })
    }

    /// Has a line begin with what is added next, for readers who tell lines apart by
    /// [`crate::reader::Reader::line_begins`].
    pub fn begin_line(&mut self) {
        self.times.begin_line();
    }

    /// Adds bytes, rotating as often as the limits ask for. A line is not split between two files
    /// unless it is larger than a file may be.
    ///
    /// # Errors
    /// When the disk is full or fails. The error tells how much was written: try again with the
    /// rest.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.append_with(bytes, &())
    }

    /// As [`Log::append`], with an account kept of each write.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_with(&mut self, bytes: &[u8], account: &impl Account) -> Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            written += self.append_some(&bytes[written..], account).map_err(|source| Error {
                path: self.path.clone(),
                written,
                source,
            })?;
        }
        Ok(())
    }

    /// Writes a part of `bytes`, or rotates and writes nothing.
    fn append_some(&mut self, bytes: &[u8], account: &impl Account) -> std::io::Result<usize> {
        self.follow_path()?;
        let state = FileState::of(&self.file.metadata()?);
        if state.size < self.size {
            // Someone has truncated it. Readers learn by its new place that what they find is new.
            place::leave(&self.file, self.end.saturating_sub(state.size));
            self.size = state.size;
        }
        let fitting = fitting(bytes, self.limits.max_size, state.size);
        if fitting == 0 {
            return self.rotate().map(|()| 0);
        }
        self.times.note(state.size);
        account.about_to_write(state, fitting);
        let written = match self.file.write(&bytes[..fitting]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(0),
            other => other,
        };
        let length = *written.as_ref().unwrap_or(&0);
        account.has_written(length);
        self.end = self.end.saturating_add(length as u64);
        self.size = state.size.saturating_add(length as u64);
        written
    }

    /// Opens the file again when someone has renamed or deleted it.
    fn follow_path(&mut self) -> std::io::Result<()> {
        if Identity::at(&self.path) != Some(Identity::of(&self.file.metadata()?)) {
            self.begin_file()?;
        }
        Ok(())
    }

    /// Opens the file at the log's path, a new one most often, and leaves its place there.
    fn begin_file(&mut self) -> std::io::Result<()> {
        self.file = open(&self.path)?;
        let metadata = self.file.metadata()?;
        if metadata.len() == 0 {
            place::leave(&self.file, self.end);
        }
        self.size = metadata.len();
        self.times = TimesWriter::open(&self.path, Identity::of(&metadata));
        Ok(())
    }

    /// Moves each file to the next number, the oldest out, and begins a new one. Every step leaves
    /// all bytes in files whose order is right, so a rotation that is killed is simply gone on with
    /// by the next.
    fn rotate(&mut self) -> std::io::Result<()> {
        for number in
            chain::numbers(&self.path)?.into_iter().filter(|&number| number >= self.limits.max_files)
        {
            // The last one would move beyond the limit. Those that are beyond it already come from
            // larger limits.
            if number > self.limits.max_files || self.is_full()? {
                std::fs::remove_file(chain::rotated(&self.path, number))?;
            }
        }
        if self.limits.max_files == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            // A gap left by a killed rotation is filled before anything is moved beyond it.
            let taken = chain::numbers(&self.path)?;
            let free = (1..=self.limits.max_files)
                .find(|number| !taken.contains(number))
                .unwrap_or(self.limits.max_files);
            for number in (0..free).rev() {
                std::fs::rename(chain::rotated(&self.path, number), chain::rotated(&self.path, number + 1))?;
            }
        }
        self.rotations += 1;
        self.begin_file()
    }

    /// Returns how often it was rotated since this was last asked.
    pub(crate) fn take_rotations(&mut self) -> u64 {
        std::mem::take(&mut self.rotations)
    }

    /// Whether all the numbers that the limits allow are taken.
    fn is_full(&self) -> std::io::Result<bool> {
        let taken = chain::numbers(&self.path)?;
        Ok((1..=self.limits.max_files).all(|number| taken.contains(&number)))
    }
}

/// Returns how many bytes were ever written to the log at `path`, over all of its files. `None`
/// where nothing tells: no such file, or a file system that keeps no extended attributes.
#[must_use]
pub fn written(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    Some(place::find(&file)?.saturating_add(size))
}

/// How many of `bytes` to write to a file of `size`: whole lines as far as they fit, and 0 to begin
/// a new file first.
fn fitting(bytes: &[u8], max_size: u64, size: u64) -> usize {
    let max_size = usize::try_from(max_size).unwrap_or(usize::MAX).max(1);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let room = max_size.saturating_sub(size);
    if bytes.len() <= room {
        return bytes.len();
    }
    let newline = |byte: &u8| *byte == b'\n';
    let line = bytes.iter().position(newline).map_or(bytes.len(), |end| end + 1);
    match bytes[..room].iter().rposition(newline) {
        Some(last) => last + 1,
        // The line does not fit here. If it does in a file of its own, it gets one; else it is
        // split.
        None if size > 0 && line <= max_size => 0,
        None => room,
    }
}

/// Opens a file, or makes it, and its directory as well when someone has removed that.
fn open(path: &Path) -> std::io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir(directory)?;
            open()
        }
        (opened, _) => opened,
    }
}

#[cfg(test)]
mod tests;
