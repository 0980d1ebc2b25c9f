//! Reading a log while it is written and rotated: each byte once, in order.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::chain::{self, Identity};
use crate::place;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest byte that is kept.
    Beginning,
    /// With the last lines, so many of them. A line without its end counts.
    Lines(usize),
}

/// A reader that remembers where it is, across rotations.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    current: Option<Current>,
    /// Bytes that were rotated away before they were read, and not yet told.
    missed: u64,
}

/// The file that is being read. It is kept open, so it is found again under whatever name.
#[derive(Debug)]
struct Current {
    file: File,
    identity: Identity,
    /// The files that were older than it when it was opened: read already, or not wanted.
    older: Vec<Identity>,
    /// How many of its bytes were read or passed over.
    offset: u64,
    /// Where in the whole log the file before it ended, until it is known where this one begins: the writer leaves that a
    /// moment after it has made a file.
    follows: Option<u64>,
}

impl Follower {
    /// A reader of the log at `path`, which need not exist yet.
    ///
    /// # Errors
    /// When its directory or a file cannot be read.
    pub fn open(path: &Path, start: Start) -> std::io::Result<Follower> {
        let mut follower = Follower { path: path.to_owned(), current: None, missed: 0 };
        match start {
            Start::Beginning => {}
            Start::Lines(lines) => follower.seek_lines(lines)?,
        }
        Ok(follower)
    }

    /// Writes all that has come since the last call to `out`.
    ///
    /// # Errors
    /// When a file cannot be read or `out` not written.
    pub fn read_available(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        loop {
            let Some(current) = &mut self.current else {
                match self.next_file(&[])? {
                    Some(next) => self.current = Some(next),
                    None => break,
                }
                continue;
            };
            if current.pour(out)? > 0 {
                continue;
            }
            if current.restart_if_truncated()? {
                continue;
            }
            if Identity::at(&self.path) == Some(current.identity) {
                break;
            }
            // It was rotated. Nothing is added to it any more, but something may have been since we last read.
            if current.pour(out)? > 0 {
                continue;
            }
            self.missed = self.missed.saturating_add(current.missed_before());
            let end = current.end();
            let mut done = std::mem::take(&mut current.older);
            done.push(current.identity);
            match self.next_file(&done)? {
                Some(next) => self.current = Some(Current { follows: end, ..next }),
                None => {
                    if let Some(current) = &mut self.current {
                        done.pop();
                        current.older = done;
                    }
                    break;
                }
            }
        }
        out.flush()
    }

    /// How many bytes were rotated away before they could be read, since this was asked last. Not known on file systems
    /// without extended attributes.
    pub fn take_missed(&mut self) -> u64 {
        if let Some(current) = &mut self.current {
            self.missed = self.missed.saturating_add(current.missed_before());
        }
        std::mem::take(&mut self.missed)
    }

    /// The oldest file that is not among `done`.
    fn next_file(&self, done: &[Identity]) -> std::io::Result<Option<Current>> {
        // A rotation between the listing and the opening shifts the names: then the listing is made again.
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
                return Ok(Some(Current { file, identity, older, offset: 0, follows: None }));
            }
            return Ok(None);
        }
    }

    /// Goes to where the last `lines` lines begin.
    fn seek_lines(&mut self, lines: usize) -> std::io::Result<()> {
        let mut done: Vec<Identity> = Vec::new();
        let mut files = Vec::new();
        while let Some(next) = self.next_file(&done)? {
            done.push(next.identity);
            files.push(next);
        }
        // Newlines that belong to the lines wanted: the one at the very end closes the last line.
        let mut wanted = lines;
        let mut at_end = true;
        while let Some(mut current) = files.pop() {
            let found = line_start(&mut current.file, &mut wanted, &mut at_end)?;
            let is_oldest = files.is_empty();
            if found || is_oldest {
                current.older =
                    done.iter().copied().take_while(|identity| *identity != current.identity).collect();
                current.offset = current.file.stream_position()?;
                self.current = Some(current);
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Current {
    /// Copies what is there.
    fn pour(&mut self, out: &mut dyn Write) -> std::io::Result<u64> {
        let poured = std::io::copy(&mut self.file, out)?;
        self.offset = self.offset.saturating_add(poured);
        Ok(poured)
    }

    /// Where in the whole log it ends, as far as it was read.
    fn end(&self) -> Option<u64> {
        place::find(&self.file).map(|start| start.saturating_add(self.offset))
    }

    /// How many bytes lie between the end of the file before it and its beginning; told once.
    fn missed_before(&mut self) -> u64 {
        let Some(end) = self.follows else { return 0 };
        let Some(start) = place::find(&self.file) else { return 0 };
        self.follows = None;
        start.saturating_sub(end)
    }

    /// Someone has truncated the file: its new beginning has not been read.
    fn restart_if_truncated(&mut self) -> std::io::Result<bool> {
        let truncated = self.file.metadata()?.len() < self.file.stream_position()?;
        if truncated {
            self.file.rewind()?;
        }
        Ok(truncated)
    }
}

/// Goes back from the end of `file` to where the last lines begin. When it has fewer, it is left at its beginning and
/// `wanted` tells how many are still to be found in older files.
fn line_start(file: &mut File, wanted: &mut usize, at_end: &mut bool) -> std::io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let mut position = file.seek(SeekFrom::End(0))?;
    if *wanted == 0 {
        return Ok(true);
    }
    while position > 0 {
        let length = position.min(buffer.len() as u64);
        position = file.seek(SeekFrom::Start(position - length))?;
        // At most the buffer's size.
        let block = &mut buffer[..length as usize];
        file.read_exact(block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if !std::mem::take(at_end) || index + 1 != block.len() {
                *wanted -= 1;
                if *wanted == 0 {
                    file.seek(SeekFrom::Start(position + index as u64 + 1))?;
                    return Ok(true);
                }
            }
        }
        *at_end = false;
    }
    file.rewind()?;
    Ok(false)
}

#[cfg(test)]
mod tests;
