//! Bytes that were read from a console and dropped, because the buffer was full: how many, and
//! when. The log reports them in a line at their place.
//!
//! The count is in the memory as well. The successor of a killed process counts on:
//! no byte that was lost goes untold, and none is told twice.

#![allow(unsafe_code)] // memory that others may write to

use std::io::Result;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::memory::{Field, Memory, SCRATCH};
use super::{Buffer, Guard};

/// Bytes that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many.
    pub bytes: u64,
    /// When the first of them was read.
    pub since: SystemTime,
    /// When the last of them was.
    pub until: SystemTime,
}

impl Loss {
    /// Returns the unreported loss of a process that was killed; `tail` bytes are in its log or on
    /// their way to it.
    pub(super) fn untold(memory: &Memory, guard: Guard, tail: u64) -> Option<Loss> {
        let (mut bytes, losing_to) = (memory.get(Field::Lost), memory.get(Field::LosingTo));
        if let Some(length) = losing_to.checked_sub(bytes) {
            let mut start = vec![0; guard.length(length)];
            memory.copy_scratch_to(&mut start);
            if guard.is_gone_from(&start) {
                bytes = losing_to;
            }
        }
        if tail > 0 && memory.get(Field::MarkedTo) == tail {
            bytes = 0; // told, and the count not reset
        }
        memory.set(Field::Lost, bytes);
        memory.set(Field::LosingTo, bytes);
        memory.set(Field::MarkedTo, 0);
        let time = |field| {
            let since = Duration::from_millis(memory.get(field));
            UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
        };
        let loss = Loss { bytes, since: time(Field::LostSince), until: time(Field::LostUntil) };
        (bytes > 0).then_some(loss)
    }
}

impl Buffer {
    /// Returns the loss at its end.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.loss
    }

    /// Loses what `read` puts into the memory it is given, which is of `length` bytes or less. It
    /// must fill all of it, or nothing.
    pub(crate) fn lose(
        &mut self,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<usize> {
        let memory = &self.inner.memory;
        let now = SystemTime::now();
        let before = self.loss.map_or(0, |loss| loss.bytes);
        let since = self.loss.map_or(now, |loss| loss.since);
        memory.set(Field::LostSince, milliseconds(since));
        memory.set(Field::LostUntil, milliseconds(now));
        let length = length.min(SCRATCH);
        // SAFETY: `&mut self` is the only one who uses it, and what `read` puts there nobody reads.
        let scratch = unsafe { &mut memory.scratch()[..length] };
        self.inner.guard.put(scratch);
        memory.set(Field::LosingTo, before.saturating_add(length as u64));
        let read = read(scratch);
        let bytes = before.saturating_add(read.as_ref().map_or(0, |taken| length.min(*taken)) as u64);
        memory.set(Field::Lost, bytes);
        memory.set(Field::LosingTo, bytes);
        self.loss = (bytes > 0).then_some(Loss { bytes, since, until: now });
        read
    }

    /// Puts what `tell` makes of the loss where the bytes are missing, in a line of its own.
    /// Without enough room it does nothing.
    pub(crate) fn tell_loss(&mut self, tell: impl FnOnce(Loss) -> String) -> Option<Loss> {
        let loss = self.loss?;
        let mut line = if self.ends_line() { String::new() } else { "\n".to_owned() };
        line.push_str(&tell(loss));
        line.push('\n');
        if line.len() > self.room() {
            return None;
        }
        self.begin_anew_if_empty();
        let memory = &self.inner.memory;
        // SAFETY: as in `receive`: beyond `tail` and within the room, and only written to.
        unsafe { memory.bytes_mut(self.inner.offset(self.tail), line.len()) }
            .copy_from_slice(line.as_bytes());
        self.tail += line.len() as u64;
        memory.set(Field::MarkedTo, self.tail);
        memory.set(Field::Tail, self.tail); // from here on it is told
        memory.set(Field::Lost, 0);
        memory.set(Field::LosingTo, 0);
        memory.set(Field::MarkedTo, 0);
        self.loss.take()
    }

    /// Whether the last byte that was read ends a line, as far as is known. It may be in the log
    /// already, and is in the ring still.
    fn ends_line(&self) -> bool {
        let base = self.inner.base.load(Ordering::Relaxed);
        self.tail == base || self.inner.copy(self.tail - 1, self.tail) == b"\n"
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::memory::CAPACITY;
    use super::*;
    use crate::buffer::tests::put;

    fn opened(buffer: &Buffer) -> Buffer {
        Buffer::open(buffer.memory().unwrap()).unwrap().0
    }

    fn lost(buffer: &Buffer) -> u64 {
        buffer.loss().map_or(0, |loss| loss.bytes)
    }

    fn throw_away(buffer: &mut Buffer, bytes: &[u8]) {
        let read = |scratch: &mut [u8]| {
            scratch.copy_from_slice(bytes);
            Ok(scratch.len())
        };
        assert_eq!(buffer.lose(bytes.len(), read).unwrap(), bytes.len());
    }

    #[test]
    fn what_is_lost_is_counted_also_by_whoever_comes_after_a_kill() {
        let mut buffer = Buffer::new().unwrap();
        put(&mut buffer, b"kept\n");
        throw_away(&mut buffer, b"lost");
        let memory = buffer.memory().unwrap();
        let now = || lost(&Buffer::open(memory.try_clone().unwrap()).unwrap().0);
        let read = |scratch: &mut [u8]| {
            assert_eq!(now(), 4, "announced, and not done");
            Ok(0).inspect(|_| scratch.fill(b'x'))
        };
        buffer.lose(10, read).unwrap();
        assert_eq!((lost(&buffer), lost(&opened(&buffer))), (4, 4), "a read that has taken nothing");
        throw_away(&mut buffer, b"more than eight bytes");
        let next = opened(&buffer);
        assert_eq!((lost(&next), &*next.bytes(0)), (25, &b"kept\n"[..]));
        let [ours, theirs] =
            [buffer.loss(), next.loss()].map(|loss| loss.map(|loss| milliseconds(loss.since)));
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_read_that_was_done_and_not_counted_is_counted() {
        let mut buffer = Buffer::new().unwrap();
        let memory = buffer.memory().unwrap();
        let read = |scratch: &mut [u8]| {
            scratch.fill(b'x');
            assert_eq!(lost(&Buffer::open(memory.try_clone().unwrap()).unwrap().0), 3);
            Ok(3)
        };
        buffer.lose(3, read).unwrap();
        assert_eq!(lost(&buffer), 3);
    }

    #[test]
    fn a_loss_is_told_once_where_it_is_in_a_line_of_its_own() {
        for (before, expected) in [
            (&b"line\n"[..], "line\n[3 lost]\nafter"),
            (b"half", "half\n[3 lost]\nafter"),
            (b"", "[3 lost]\nafter"),
        ] {
            let mut buffer = Buffer::new().unwrap();
            if !before.is_empty() {
                put(&mut buffer, before);
            }
            throw_away(&mut buffer, b"abc");
            assert_eq!(
                buffer.tell_loss(|loss| format!("[{} lost]", loss.bytes)).map(|loss| loss.bytes),
                Some(3)
            );
            assert_eq!(lost(&opened(&buffer)), 0);
            assert_eq!(buffer.tell_loss(|_| "again".to_owned()), None);
            put(&mut buffer, b"after");
            assert_eq!(opened(&buffer).bytes(0), expected.as_bytes());
        }
    }

    #[test]
    fn a_loss_that_was_told_in_the_moment_of_a_kill_is_not_told_again() {
        let mut buffer = Buffer::new().unwrap();
        throw_away(&mut buffer, b"abc");
        buffer.tell_loss(|_| "told".to_owned());
        let memory = &buffer.inner.memory;
        memory.set(Field::MarkedTo, buffer.tail);
        memory.set(Field::Lost, 3); // as before the last steps
        assert_eq!(lost(&opened(&buffer)), 0);
        assert_eq!(opened(&buffer).bytes(0), b"told\n");
    }

    #[test]
    fn without_room_it_is_told_later() {
        let mut buffer = Buffer::new().unwrap();
        put(&mut buffer, &vec![b'x'; CAPACITY]);
        throw_away(&mut buffer, b"abc");
        assert_eq!(buffer.tell_loss(|_| "told".to_owned()), None);
        assert_eq!(lost(&buffer), 3);
    }
}
