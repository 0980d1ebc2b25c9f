//! Files by number. Several names may share one: hard links.

use crate::entry::{Entry, Kind};

/// The files of a tree.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    /// Each with the number of its names.
    files: Vec<(Entry, u32)>,
    /// Those that are none any more.
    free: Vec<usize>,
}

impl Inodes {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.files.len() - self.free.len()
    }

    /// A file with one name.
    pub(super) fn add(&mut self, entry: Entry) -> usize {
        match self.free.pop() {
            Some(number) => {
                self.files[number] = (entry, 1);
                number
            }
            None => {
                self.files.push((entry, 1));
                self.files.len() - 1
            }
        }
    }

    pub(super) fn get(&self, number: usize) -> &Entry {
        &self.files[number].0
    }

    pub(super) fn names(&self, number: usize) -> u32 {
        self.files[number].1
    }

    /// Counts another name.
    pub(super) fn link(&mut self, number: usize) {
        self.files[number].1 += 1;
    }

    /// Counts a name less. What the file was, when that was its last.
    pub(super) fn unlink(&mut self, number: usize) -> Option<Kind> {
        let (entry, names) = &mut self.files[number];
        *names -= 1;
        if *names > 0 {
            return None;
        }
        self.free.push(number);
        entry.xattrs = None;
        Some(std::mem::replace(&mut entry.kind, Kind::Fifo))
    }
}
