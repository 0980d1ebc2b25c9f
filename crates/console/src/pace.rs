//! When to read next, and how much: decided from what the last reads have found, and from nothing
//! else. Pure, so that it can be checked without a clock or a console.
//!
//! A VMM hands its UART on byte by byte. A pipe merges the bytes, and waking up for each of them
//! would cost the CPU that the guest could use: so from a pipe the capture sleeps for a tick after
//! each read, and then reads all that has come. After a silence it sleeps for less than that, long
//! enough for a line: somebody waits for the first word. A socket has room for some 280 single
//! bytes (unix(7): SO_SNDBUF counts the overhead of each); then its sender waits, or drops them. So
//! from a socket they are read at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::writer::{BULK, TICK};

/// How long the first bytes after a silence are left to become a line.
const FIRST_TICK: Duration = Duration::from_millis(1);

/// Maximum number of bytes to hold in memory that came from a pipe. The pipe keeps what comes after
/// them.
const PIPE_CAPACITY: usize = 1024 * 1024;

/// Maximum number of bytes to hold in memory that came from a socket, whose sender may drop what is
/// not read.
const SOCKET_CAPACITY: usize = 4 * 1024 * 1024;

/// Largest size of one read in bytes.
const LARGEST_READ: usize = 256 * 1024;

/// Smallest size of one read in bytes, with which a socket begins. Reading from a socket that is
/// filled byte by byte takes 1 us a byte, so a large read would last longer than a tick.
const SMALLEST_READ: usize = 4 * 1024;

/// Stop reading ahead when more than this is held, in bytes, and the write that is under way has
/// taken longer than a tick.
const READ_AHEAD_MAX: usize = 1024 * 1024;

/// A read of fewer bytes than this is no part of a flood.
const SMALL_READ: usize = 4 * 1024;

/// A flood ends after this many small reads.
const FLOOD_END_READS: u32 = 3;

/// A read from a socket this large means that more has come while it lasted, in bytes: read again
/// at once. A read takes no more than what was there when it began.
const LATE_READ: usize = 64;

/// A socket is idle after this many reads that found nothing: wait until it is readable.
const IDLE_READS: u32 = 3;

/// Kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keeps what is not read.
    Pipe,
    /// Has room for little.
    Socket,
}

/// When to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextRead {
    /// At once.
    Now,
    /// After so short a pause that a socket's buffer does not fill in it.
    Soon,
    /// At a time.
    At(Instant),
    /// When there is something to read.
    WhenReadable,
}

/// The pace at which a source is read.
#[derive(Debug)]
pub(crate) struct Pace {
    kind: Kind,
    next: NextRead,
    /// How many more small reads end the flood that is under way; 0 when there is none.
    flood_reads_left: u32,
    /// Looks in a row that have found nothing.
    empty_looks: u32,
    /// Size of the next read in bytes.
    read_size: usize,
}

impl Pace {
    /// Returns the pace for a source from which nothing has come yet.
    pub(crate) fn new(kind: Kind) -> Pace {
        Pace {
            kind,
            next: NextRead::WhenReadable,
            flood_reads_left: 0,
            empty_looks: 0,
            read_size: match kind {
                Kind::Pipe => LARGEST_READ,
                Kind::Socket => SMALLEST_READ,
            },
        }
    }

    /// When to read next.
    pub(crate) fn next(&self) -> NextRead {
        self.next
    }

    /// Whether that is now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.next {
            NextRead::Now | NextRead::Soon => true,
            NextRead::At(time) => time <= now,
            NextRead::WhenReadable => false,
        }
    }

    /// Whether more may be read while so many bytes are held in memory.
    pub(crate) fn has_room(&self, held: usize) -> bool {
        let capacity = match self.kind {
            Kind::Pipe => PIPE_CAPACITY,
            Kind::Socket => SOCKET_CAPACITY,
        };
        held < capacity
    }

    /// Size of the next read in bytes.
    pub(crate) fn read_size(&self) -> usize {
        self.read_size
    }

    /// Whether a look is a single read: during a flood more has come by the time that one is
    /// written.
    pub(crate) fn reads_once(&self) -> bool {
        self.flood_reads_left > 0 || self.kind == Kind::Socket
    }

    /// Whether more comes than is worth sleeping for.
    pub(crate) fn is_flood(&self) -> bool {
        self.flood_reads_left > 0
    }

    /// Since when what is read now counts as waiting. It is a tick for all that a pipe has
    /// gathered, so that it is written now.
    pub(crate) fn waited_since(&self, now: Instant) -> Instant {
        if let NextRead::At(time) = self.next { time - TICK } else { now }
    }

    /// After a read: makes the next one larger if this one was filled quickly, and smaller if it
    /// took long.
    pub(crate) fn after_read(&mut self, read: Option<usize>, took: Duration) {
        if took > TICK / 2 {
            self.read_size = (self.read_size / 2).max(SMALLEST_READ);
        } else if read >= Some(self.read_size) && took < TICK / 8 {
            self.read_size = (self.read_size * 2).min(LARGEST_READ);
        }
    }

    /// After a look that has found `taken` bytes: decides when to look again.
    pub(crate) fn after_look(&mut self, taken: usize, now: Instant) {
        self.flood_reads_left = match taken {
            BULK.. => FLOOD_END_READS,
            SMALL_READ.. | 0 => self.flood_reads_left,
            _ => self.flood_reads_left.saturating_sub(1),
        };
        self.empty_looks = if taken == 0 { self.empty_looks + 1 } else { 0 };
        self.next = match (taken, self.kind) {
            (0, Kind::Pipe) => NextRead::WhenReadable,
            (0, Kind::Socket) if self.empty_looks >= IDLE_READS => NextRead::WhenReadable,
            _ if self.is_flood() => NextRead::Now,
            (_, Kind::Pipe) => NextRead::At(now + TICK),
            (LATE_READ.., Kind::Socket) => NextRead::Now,
            (_, Kind::Socket) => NextRead::Soon,
        };
    }

    /// There is something to read again.
    pub(crate) fn became_readable(&mut self, now: Instant) {
        self.next = match self.kind {
            Kind::Pipe if !self.is_flood() => NextRead::At(now + FIRST_TICK),
            _ => NextRead::Now,
        };
    }

    /// There is room again.
    pub(crate) fn became_roomy(&mut self) {
        self.next = NextRead::Now;
    }

    /// Until when nothing is read though there is room: during a flood there is no need to hold
    /// more while the disk is still writing what it was given at `writing_since`.
    pub(crate) fn held_back_until(&self, held: usize, writing_since: Option<Instant>) -> Option<Instant> {
        writing_since.filter(|_| held > READ_AHEAD_MAX).map(|since| since + TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Describes what follows each of these reads.
    fn looks(kind: Kind, taken: &[usize]) -> Vec<&'static str> {
        let now = Instant::now();
        let mut pace = Pace::new(kind);
        let mut next = |taken: &usize| {
            pace.after_look(*taken, now);
            match pace.next() {
                NextRead::Now => "now",
                NextRead::Soon => "soon",
                NextRead::At(time) if time == now + TICK => "in a tick",
                NextRead::At(_) => "at another time",
                NextRead::WhenReadable => "when readable",
            }
        };
        taken.iter().map(&mut next).collect()
    }

    #[test]
    fn a_pipe_is_left_to_fill_and_a_socket_is_not() {
        let table: [(Kind, &[usize], &[&str]); 8] = [
            (Kind::Pipe, &[1, 500, 3999], &["in a tick", "in a tick", "in a tick"]),
            (Kind::Pipe, &[1, 0], &["in a tick", "when readable"]),
            // A flood, which three small reads end, and which a larger one does not.
            (
                Kind::Pipe,
                &[BULK, 10, 5000, 10, 10, 10],
                &["now", "now", "now", "now", "in a tick", "in a tick"],
            ),
            (Kind::Pipe, &[BULK, 0, 10], &["now", "when readable", "now"]),
            (Kind::Socket, &[1, 63, 64, 30], &["soon", "soon", "now", "soon"]),
            (Kind::Socket, &[1, 0, 0, 0, 1], &["soon", "soon", "soon", "when readable", "soon"]),
            (Kind::Socket, &[0, 0, 1, 0], &["soon", "soon", "soon", "soon"]),
            (Kind::Socket, &[BULK, 1, 1, 1], &["now", "now", "now", "soon"]),
        ];
        for (kind, taken, expected) in table {
            assert_eq!(looks(kind, taken), expected, "{kind:?} {taken:?}");
        }
    }

    #[test]
    fn a_read_grows_while_it_is_filled_quickly_and_shrinks_while_it_is_slow() {
        let (quick, slow) = (TICK / 10, TICK);
        type Reads = [(usize, Duration)];
        let table: [(Kind, &Reads, usize); 6] = [
            (Kind::Socket, &[], SMALLEST_READ),
            (Kind::Socket, &[(SMALLEST_READ, quick)], 2 * SMALLEST_READ),
            (Kind::Socket, &[(SMALLEST_READ - 1, quick)], SMALLEST_READ),
            (Kind::Socket, &[(SMALLEST_READ, quick), (2 * SMALLEST_READ, slow)], SMALLEST_READ),
            (Kind::Pipe, &[(LARGEST_READ, quick)], LARGEST_READ),
            (Kind::Pipe, &[(1, slow); 20], SMALLEST_READ),
        ];
        for (kind, reads, expected) in table {
            let mut pace = Pace::new(kind);
            for (read, took) in reads {
                pace.after_read(Some(*read), *took);
            }
            assert_eq!(pace.read_size(), expected, "{kind:?} {reads:?}");
        }
    }

    #[test]
    fn what_became_readable_is_read_soon_from_a_pipe_and_at_once_from_a_socket() {
        let now = Instant::now();
        let next = |kind, taken: usize| {
            let mut pace = Pace::new(kind);
            pace.after_look(taken, now);
            pace.became_readable(now);
            pace.next()
        };
        assert_eq!(next(Kind::Pipe, 1), NextRead::At(now + FIRST_TICK));
        assert_eq!(next(Kind::Pipe, BULK), NextRead::Now);
        assert_eq!(next(Kind::Socket, 1), NextRead::Now);
    }

    #[test]
    fn memory_is_bounded_and_reading_ahead_is_for_disks_that_are_late() {
        let now = Instant::now();
        for (kind, capacity) in [(Kind::Pipe, PIPE_CAPACITY), (Kind::Socket, SOCKET_CAPACITY)] {
            let pace = Pace::new(kind);
            assert!(pace.has_room(capacity - 1) && !pace.has_room(capacity));
            assert_eq!(pace.held_back_until(READ_AHEAD_MAX, Some(now)), None);
            assert_eq!(pace.held_back_until(READ_AHEAD_MAX + 1, Some(now)), Some(now + TICK));
            assert_eq!(pace.held_back_until(READ_AHEAD_MAX + 1, None), None);
        }
    }
}
