//! Bytes that nobody reads yet: in memory, and beyond that in a file without a name.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use axum::body::Bytes;

/// Bytes that are kept in memory.
const IN_MEMORY: usize = 1 << 20;

/// Size of a piece that is read from the file.
const PIECE: usize = 64 << 10;

/// A queue of bytes.
pub(crate) struct Spool {
    directory: PathBuf,
    /// The first bytes.
    memory: VecDeque<Bytes>,
    in_memory: usize,
    /// The bytes behind them, if there are some: a file, and which part of it.
    file: Option<(File, u64, u64)>,
}

impl Spool {
    /// Makes a queue, whose file will be in `directory`.
    pub(crate) fn new(directory: &Path) -> Spool {
        Spool { directory: directory.to_owned(), memory: VecDeque::new(), in_memory: 0, file: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.file.is_none()
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub(crate) fn push(&mut self, bytes: Bytes) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.file.is_none() && self.in_memory + bytes.len() <= IN_MEMORY {
            self.in_memory += bytes.len();
            self.memory.push_back(bytes);
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some((tempfile::tempfile_in(&self.directory)?, 0, 0));
        }
        if let Some((file, _, end)) = &mut self.file {
            file.write_all_at(&bytes, *end)?;
            *end += bytes.len() as u64;
        }
        Ok(())
    }

    /// Takes the first piece.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub(crate) fn pop(&mut self) -> std::io::Result<Option<Bytes>> {
        if let Some(piece) = self.memory.pop_front() {
            self.in_memory -= piece.len();
            return Ok(Some(piece));
        }
        let Some((file, begin, end)) = &mut self.file else { return Ok(None) };
        let length = (*end - *begin).min(PIECE as u64) as usize;
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, *begin)?;
        *begin += length as u64;
        if begin == end {
            self.file = None; // its room is free again
        }
        Ok(Some(piece.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_however_many_wait() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(scratch.path());
        let piece = |number: usize| Bytes::from(vec![(number % 251) as u8; 1 + number * 7919 % 40_000]);
        let (mut put, mut taken) = (Vec::new(), Vec::new());
        for round in 0..4 {
            for number in 0..200 {
                let piece = piece(round * 200 + number);
                put.extend_from_slice(&piece);
                spool.push(piece).unwrap();
            }
            assert!(spool.in_memory <= IN_MEMORY && spool.file.is_some());
            // All of it in one round, part of it in the others.
            for _ in 0..if round == 2 { usize::MAX } else { 60 } {
                let Some(piece) = spool.pop().unwrap() else { break };
                taken.extend_from_slice(&piece);
            }
            assert_eq!(spool.is_empty(), round == 2);
        }
        while let Some(piece) = spool.pop().unwrap() {
            taken.extend_from_slice(&piece);
        }
        assert!(put == taken && spool.is_empty());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "the file has no name");
    }
}
