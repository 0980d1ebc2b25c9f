//! Bytes on their way from a console to its log, in memory that outlives the process that has read
//! them.
//!
//! The memory is a memfd that the VMM holds open as well. When the process that captures a console
//! is killed, the next one finds in it what was read and is not in the log yet, and goes on where
//! the other was stopped: no byte is lost, and none is written twice.
//!
//! It is a ring. Positions count all bytes that ever came; those from `head` to `tail` are in it.
//! Each of the two system calls that move a byte is announced before and recorded after it, so
//! there is only one question left about a process that was killed in between, and each has its
//! answer:
//! - Has read(2) taken the bytes out of the console? As many were asked for as were there, so it
//!   has taken all or none. Where the first of them was to go, a random number had been put, which
//!   is there still if none was taken.
//! - Has write(2) put them into the log? The log's size tells, which was noted before (`settle`).
//!
//! The VMM can write to this memory, and its guest is hostile. So what is in it is read only when a
//! `Buffer` is opened, checked, and kept apart from then on; what a bad VMM can spoil is its own
//! guest's output. The memory's size is sealed.

#![allow(unsafe_code)] // slices of memory to write to, to which others may write too

mod loss;
mod memory;

use std::hash::{BuildHasher, RandomState};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::log::{Account, FileState};
pub use loss::Loss;
use memory::{CAPACITY, Field, Memory, PAGE};

/// The layout of the memory, and that it is one of ours.
const FORMAT: u64 = 0x6879_7065_6d61_6e01;

/// Maximum position. A console that prints 1 GB a second comes there in 146 years: beyond it,
/// somebody has made a number up.
const MAX_POSITION: u64 = 1 << 62;

/// Maximum size in bytes of what is copied out of the memory at once, to be written.
const PIECE: usize = 256 * 1024;

/// The number that stands where a read is to put its first bytes, or as much of it as there is room
/// for.
#[derive(Debug, Clone, Copy)]
struct Guard([u8; 8]);

impl Guard {
    fn of(memory: &Memory) -> Guard {
        Guard(memory.get(Field::Guard).to_ne_bytes())
    }

    /// So many bytes of it stand before a read of `length` bytes.
    fn length(self, length: u64) -> usize {
        self.0.len().min(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn put(self, bytes: &mut [u8]) {
        let length = self.length(bytes.len() as u64);
        bytes[..length].copy_from_slice(&self.0[..length]);
    }

    /// Whether these are not the bytes that were put.
    fn is_gone_from(self, bytes: &[u8]) -> bool {
        *bytes != self.0[..bytes.len()]
    }
}

/// Bytes that were read from a console and may not be in its log yet.
#[derive(Debug)]
pub struct Buffer {
    inner: Arc<Inner>,
    /// Position after the last byte that was read.
    tail: u64,
    /// Position before which no batch is read from any more, so that it may be overwritten.
    released: u64,
    /// Bytes dropped since.
    loss: Option<Loss>,
    /// Whether the source may have been full when something came from it last.
    source_was_full: bool,
}

#[derive(Debug)]
struct Inner {
    memory: Memory,
    guard: Guard,
    /// Position of the first byte that is not in the log.
    head: AtomicU64,
    /// Position that lies at the beginning of the memory.
    base: AtomicU64,
}

/// A write to a log during which its process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutShort {
    /// The file as it was before.
    pub file: FileState,
    /// How many bytes were to be written.
    pub length: usize,
    /// Position of the first of them.
    from: u64,
}

impl Buffer {
    /// An empty one.
    ///
    /// # Errors
    /// When there is no memory, or no descriptor.
    pub fn new() -> Result<Buffer> {
        let memory = Memory::new()?;
        memory.set(Field::Guard, RandomState::new().hash_one(std::process::id()));
        memory.set(Field::Format, FORMAT);
        let (head, base) = (AtomicU64::new(0), AtomicU64::new(0));
        let inner = Inner { guard: Guard::of(&memory), memory, head, base };
        Ok(Buffer { inner: Arc::new(inner), tail: 0, released: 0, loss: None, source_was_full: false })
    }

    /// Returns the buffer of a process that was killed, and the write that was cut short. Call
    /// [`Buffer::is_in_log`] next.
    ///
    /// # Errors
    /// When it is no such memory, or what stands in it cannot be.
    pub fn open(memory: OwnedFd) -> Result<(Buffer, Option<CutShort>)> {
        let memory = Memory::open(memory)?;
        let get = |field| memory.get(field);
        let wrong = |what| Err(Error::new(ErrorKind::InvalidData, format!("a console's buffer with {what}")));
        if get(Field::Format) != FORMAT {
            return wrong("another layout");
        }
        let (base, head, mut tail) = (get(Field::Base), get(Field::Head), get(Field::Tail));
        let in_order =
            |from: u64, to: u64| to.checked_sub(from).is_some_and(|length| length <= CAPACITY as u64);
        let (reading_to, writing_from, writing_to) =
            (get(Field::ReadingTo), get(Field::WritingFrom), get(Field::WritingTo));
        let all = [base, head, tail, reading_to, writing_from, writing_to];
        let is_possible = all.iter().all(|position| *position <= MAX_POSITION);
        if !is_possible
            || base > head
            || !in_order(head, tail)
            || reading_to > tail && !in_order(head, reading_to)
        {
            return wrong("impossible positions");
        }
        let guard = Guard::of(&memory);
        if let Some(length) = reading_to.checked_sub(tail) {
            let mut start = vec![0; guard.length(length)];
            memory.copy_to(offset(base, tail), &mut start);
            if guard.is_gone_from(&start) {
                tail = reading_to;
            }
        }
        let is_cut_short = head < writing_to && writing_to <= tail && in_order(writing_from, writing_to);
        let cut_short = is_cut_short.then(|| CutShort {
            file: FileState { device: get(Field::Device), inode: get(Field::Inode), size: get(Field::Size) },
            length: usize::try_from(writing_to - writing_from).unwrap_or(0),
            from: writing_from,
        });
        let loss = Loss::untold(&memory, guard, tail);
        let source_was_full = get(Field::SourceFull) > 0;
        let inner = Inner { memory, guard, head: head.into(), base: base.into() };
        inner.memory.set(Field::Tail, tail);
        Ok((Buffer { inner: Arc::new(inner), tail, released: head, loss, source_was_full }, cut_short))
    }

    /// The memory, to be held by the VMM.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn memory(&self) -> Result<OwnedFd> {
        self.inner.memory.descriptor()
    }

    /// So many bytes of a write that was cut short were found to be in the log. A process that is
    /// killed after this finds the same.
    pub fn is_in_log(&mut self, write: &CutShort, length: usize) {
        let to = write.from + length.min(write.length) as u64;
        self.inner.move_head(to.clamp(self.inner.head(), self.tail));
        self.released = self.inner.head();
    }

    /// Whether the source may have been full when something came from it last, whichever process
    /// has read that.
    pub(crate) fn source_may_have_been_full(&self) -> bool {
        self.source_was_full
    }

    /// Notes that, also for a successor.
    pub(crate) fn note_source(&mut self, was_full: bool) {
        self.source_was_full = was_full;
        self.inner.memory.set(Field::SourceFull, was_full.into());
    }

    /// How many bytes it holds that are not known to be in the log.
    pub(crate) fn held(&self) -> usize {
        usize::try_from(self.tail - self.inner.head()).unwrap_or(usize::MAX)
    }

    /// How many more it can take.
    pub(crate) fn room(&self) -> usize {
        CAPACITY - usize::try_from(self.tail - self.released).unwrap_or(CAPACITY)
    }

    /// Position after the last byte.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// A copy of the bytes from a position on.
    #[cfg(test)]
    pub(crate) fn bytes(&self, from: u64) -> Vec<u8> {
        self.inner.copy(from.clamp(self.released, self.tail), self.tail)
    }

    /// How many of the bytes from a position on are whole lines.
    pub(crate) fn lines(&self, from: u64) -> u64 {
        let from = from.clamp(self.released, self.tail);
        let mut to = self.tail;
        while to > from {
            let begin = from.max(to.saturating_sub(PIECE as u64));
            let last = self.inner.copy(begin, to).iter().rposition(|byte| *byte == b'\n');
            if let Some(last) = last {
                return begin + last as u64 + 1 - from;
            }
            to = begin;
        }
        0
    }

    /// Takes what `read` puts into the memory it is given, which is of `length` bytes or less. It
    /// must fill all of it, or nothing.
    pub(crate) fn receive(
        &mut self,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<usize> {
        let length = length.min(self.room());
        self.begin_anew_if_empty();
        let (inner, memory) = (&*self.inner, &self.inner.memory);
        // SAFETY: this lies beyond `tail` and within the room, so nobody in this process reads it,
        // and `&mut self` is the only one who writes; here and in `read` it is only written to.
        let free = unsafe { memory.bytes_mut(inner.offset(self.tail), length) };
        // Each page is there before the read. One that had to be brought in would cut the read
        // short in the moment of a kill.
        free.iter_mut().step_by(PAGE).for_each(|byte| *byte = 0);
        free.last_mut().into_iter().for_each(|byte| *byte = 0);
        inner.guard.put(free);
        memory.set(Field::ReadingTo, self.tail + length as u64);
        let read = read(free);
        let taken = read.as_ref().map_or(0, |taken| length.min(*taken));
        self.tail += taken as u64;
        memory.set(Field::ReadingTo, self.tail);
        memory.set(Field::Tail, self.tail);
        read.map(|_| taken)
    }

    /// As little of the memory as possible is ever touched.
    fn begin_anew_if_empty(&self) {
        if self.tail == self.released && self.tail == self.inner.head() {
            self.inner.base.store(self.tail, Ordering::Relaxed);
            self.inner.memory.set(Field::Base, self.tail);
        }
    }

    /// Lends the bytes up to a position, to be written to the log, until they come back by
    /// [`Buffer::release`]; one batch at a time.
    pub(crate) fn lend(&self, to: u64) -> Batch {
        Batch { inner: self.inner.clone(), from: self.inner.head(), to: to.min(self.tail) }
    }

    /// Takes a batch back: the part that is in the log may be overwritten.
    pub(crate) fn release(&mut self, batch: Batch) {
        drop(batch);
        if Arc::strong_count(&self.inner) == 1 {
            self.released = self.inner.head();
        }
    }

    /// Gives back the memory behind its first `keep` bytes, if it is empty.
    pub(crate) fn shrink(&self, keep: usize) {
        if self.held() == 0 && self.room() == CAPACITY {
            self.inner.memory.give_back(keep);
        }
    }
}

fn offset(base: u64, position: u64) -> usize {
    usize::try_from(position.wrapping_sub(base) % CAPACITY as u64).unwrap_or(0)
}

impl Inner {
    fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    fn move_head(&self, to: u64) {
        self.memory.set(Field::Head, to);
        self.head.store(to, Ordering::Release);
    }

    fn offset(&self, position: u64) -> usize {
        offset(self.base.load(Ordering::Relaxed), position)
    }

    /// A copy of what lies between two positions.
    fn copy(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        self.memory.copy_to(self.offset(from), &mut bytes);
        bytes
    }
}

/// Bytes that are being written to the log.
#[derive(Debug)]
pub(crate) struct Batch {
    inner: Arc<Inner>,
    from: u64,
    to: u64,
}

impl Batch {
    /// A copy of the next ones that are not in the log yet, to the end of a line if more follow and
    /// there is one; empty when all are there.
    pub(crate) fn next(&self) -> Vec<u8> {
        let from = self.inner.head().clamp(self.from, self.to);
        let to = self.to.min(from + PIECE as u64);
        let mut bytes = self.inner.copy(from, to);
        if to < self.to
            && let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n')
        {
            bytes.truncate(last + 1);
        }
        bytes
    }
}

impl Account for Batch {
    fn about_to_write(&self, file: FileState, length: usize) {
        let (memory, head) = (&self.inner.memory, self.inner.head());
        memory.set(Field::WritingTo, head); // what was announced before is settled
        memory.set(Field::Device, file.device);
        memory.set(Field::Inode, file.inode);
        memory.set(Field::Size, file.size);
        memory.set(Field::WritingFrom, head);
        memory.set(Field::WritingTo, head + length as u64);
    }

    fn has_written(&self, length: usize) {
        let head = self.inner.head() + length as u64;
        self.inner.memory.set(Field::WritingTo, head);
        self.inner.move_head(head);
    }
}

#[cfg(test)]
mod tests;
