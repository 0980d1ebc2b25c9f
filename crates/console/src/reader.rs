//! Reading a log while it is written and rotated: each byte once, in order.
//!
//! A reader is pulled: it gives as much as is asked for, and where it is can be saved and gone on
//! with later. It keeps the file that it reads open and so finds it again under whatever name. What
//! it looks at after each read tells it whether someone has truncated that file meanwhile, as
//! logrotate's copytruncate does; then it goes on with the copy, where it was, and with the file's
//! new beginning after that.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::chain::{self, Identity};
use crate::place;
use crate::times::Times;

mod seek;

/// Where to begin: where the last of these puts it. Without any, with the oldest byte that is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// With the last lines, so many of them. A line without its end counts.
    pub lines: Option<usize>,
    /// With the first line that was written then or later, as far as the log's times tell.
    pub since: Option<SystemTime>,
}

/// A place in a log, to go on from later: it holds over rotations, and restarts of reader and
/// writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    file: Identity,
    /// Bytes of the file before it.
    offset: u64,
    /// Where the file began in all that was ever written, as far as is known.
    start: Option<u64>,
}

impl Cursor {
    /// Bytes of its file before it.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// A reader that remembers where it is, across rotations.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    current: Option<Current>,
    /// Where in all that was ever written the next byte is expected.
    next: Option<u64>,
    /// Bytes that were gone before they were read, and not yet told.
    missed: u64,
    /// Where in its file the last read began.
    last: u64,
    times: Times,
}

/// The file that is being read.
#[derive(Debug)]
struct Current {
    file: File,
    identity: Identity,
    /// The files that were older than it when it was opened: read already, or not wanted.
    older: Vec<Identity>,
    /// How many of its bytes were read or passed over.
    offset: u64,
    /// Where it begins in all that was ever written. The writer leaves it before the first byte.
    start: Option<u64>,
}

/// Result of a look at the current file.
enum Look {
    /// So many bytes were read, at least one.
    Read(usize),
    /// There is nothing more in it by now.
    AtEnd,
    /// Someone has truncated it since, and nothing was read.
    Truncated,
}

impl Reader {
    /// A reader of the log at `path`, which need not exist yet.
    ///
    /// # Errors
    /// When its directory or a file cannot be read.
    pub fn open(path: &Path, start: Start) -> std::io::Result<Reader> {
        let mut reader = Reader::new(path);
        if let Some(lines) = start.lines {
            reader.seek_lines(lines)?;
        }
        if let Some(since) = start.since {
            reader.skip_before(since)?;
        }
        Ok(reader)
    }

    /// A reader that goes on where another was. If that is not kept any more, it goes on with the
    /// oldest that is, and tells how much it has missed.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn resume(path: &Path, cursor: &Cursor) -> std::io::Result<Reader> {
        let mut reader = Reader::new(path);
        reader.next = cursor.start.map(|start| start.saturating_add(cursor.offset));
        reader.seek_cursor(cursor)?;
        Ok(reader)
    }

    fn new(path: &Path) -> Reader {
        Reader { path: path.to_owned(), current: None, next: None, missed: 0, last: 0, times: Times::none() }
    }

    /// Reads what comes next into `buffer`; 0 when there is nothing more by now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(current) = &mut self.current else {
                match self.next_file(&[])? {
                    Some(next) => self.current = Some(next),
                    None => return Ok(0),
                }
                continue;
            };
            match current.read(buffer)? {
                Look::Read(count) => {
                    self.last = current.offset;
                    self.account_for(count);
                    return Ok(count);
                }
                Look::Truncated => self.go_on_with_copy()?,
                Look::AtEnd if Identity::at(&self.path) == Some(current.identity) => return Ok(0),
                // It was rotated. Nothing is added to it any more, but something may have been
                // since we last read.
                Look::AtEnd => {
                    if !current.has_more()? && !self.go_on()? {
                        return Ok(0);
                    }
                }
            }
        }
    }

    /// Writes all that has come since the last call to `out`.
    ///
    /// # Errors
    /// When a file cannot be read or `out` not written.
    pub fn read_available(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.read(&mut buffer)? {
                0 => return out.flush(),
                count => out.write_all(&buffer[..count])?,
            }
        }
    }

    /// When the byte at `index` of the last read was written, as far as the log's times tell.
    pub fn time_of(&mut self, index: usize) -> Option<SystemTime> {
        let current = self.current.as_ref()?;
        self.times.at(&self.path, current.identity, self.last.saturating_add(index as u64))
    }

    /// Where in those bytes of the last read a line begins, though the one before may have no end:
    /// the first of another boot.
    pub fn line_begins(&mut self, bytes: Range<usize>) -> Option<usize> {
        let current = self.current.as_ref()?;
        let at = |index: usize| self.last.saturating_add(index as u64);
        let found = self.times.line_begins(&self.path, current.identity, at(bytes.start)..at(bytes.end))?;
        usize::try_from(found.checked_sub(self.last)?).ok()
    }

    /// Where it is; `None` before the first file of the log is there.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        let current = self.current.as_ref()?;
        Some(Cursor { file: current.identity, offset: current.offset, start: current.start })
    }

    /// How many bytes were gone before they could be read, since this was asked last. Not known on
    /// file systems without extended attributes.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// Passes over `count` bytes that were read, and notes what lies between them and the last
    /// ones.
    fn account_for(&mut self, count: usize) {
        let Some(current) = &mut self.current else { return };
        let position = current.start.map(|start| start.saturating_add(current.offset));
        if let (Some(position), Some(next)) = (position, self.next) {
            self.missed = self.missed.saturating_add(position.saturating_sub(next));
        }
        current.offset = current.offset.saturating_add(count as u64);
        self.next = position.map(|position| position.saturating_add(count as u64));
    }

    /// Goes on with the file that comes after the current one; whether there is one.
    fn go_on(&mut self) -> std::io::Result<bool> {
        let Some(current) = &self.current else { return Ok(false) };
        let done: Vec<Identity> = current.older.iter().copied().chain([current.identity]).collect();
        let next = self.next_file(&done)?;
        let found = next.is_some();
        self.current = next.or(self.current.take());
        Ok(found)
    }

    /// Goes on with the copy that was made of the current file before that was truncated, if there
    /// is one: it is a file of the log that was not there before, and has all that was read. Then
    /// comes the file itself, from its new beginning.
    fn go_on_with_copy(&mut self) -> std::io::Result<()> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        self.times = Times::none();
        let mut copy = None;
        let mut older = Vec::new();
        for path in chain::files(&self.path)? {
            let Ok(file) = File::open(&path) else { continue };
            let metadata = file.metadata()?;
            let identity = Identity::of(&metadata);
            if identity == current.identity {
                break;
            }
            if !current.older.contains(&identity) && metadata.len() >= current.offset {
                let older = older.clone();
                copy = Some(Current { file, identity, older, offset: current.offset, start: current.start });
            }
            older.push(identity);
        }
        self.current = copy.or_else(|| {
            current.older = older;
            current.offset = 0;
            current.start = place::find(&current.file);
            Some(current)
        });
        Ok(())
    }

    /// The oldest file that is not among `done`.
    fn next_file(&self, done: &[Identity]) -> std::io::Result<Option<Current>> {
        // A rotation between the listing and the opening shifts the names: then the listing is made
        // again.
        'again: loop {
            let mut older = Vec::new();
            for path in chain::files(&self.path)? {
                let Some(identity) = Identity::at(&path) else {
                    continue 'again;
                };
                if done.contains(&identity) {
                    older.push(identity);
                    continue;
                }
                let Ok(file) = File::open(&path) else {
                    continue 'again;
                };
                if Identity::of(&file.metadata()?) != identity {
                    continue 'again;
                }
                let start = place::find(&file);
                return Ok(Some(Current { file, identity, older, offset: 0, start }));
            }
            return Ok(None);
        }
    }
}

impl Current {
    /// Reads what comes next, without passing over it.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<Look> {
        if self.offset == 0 || self.start.is_none() {
            self.start = place::find(&self.file);
        }
        let count = self.file.read_at(buffer, self.offset)?;
        // Asked after the read: the writer leaves another start before it writes to a file that was
        // truncated, so what was read is of the old content if the start still holds, also when the
        // new content has grown beyond where we were.
        let start = place::find(&self.file);
        if self.start.is_some() && start.is_some() && start != self.start {
            return Ok(Look::Truncated);
        }
        match count {
            0 if self.file.metadata()?.len() < self.offset => Ok(Look::Truncated),
            0 => Ok(Look::AtEnd),
            count => Ok(Look::Read(count)),
        }
    }

    fn has_more(&self) -> std::io::Result<bool> {
        Ok(self.file.metadata()?.len() > self.offset)
    }
}

#[cfg(test)]
mod tests;
