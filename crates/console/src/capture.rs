//! From a VM's serial line to the log.
//!
//! A VMM hands its UART on byte by byte. A pipe merges the bytes, and waking up for each of them would cost the CPU that the
//! guest could use: so from a pipe the capture sleeps for a tick after the first byte, and then reads all that has come. A
//! socket has room for some 280 single bytes (unix(7): SO_SNDBUF counts the overhead of each); then its sender waits, or drops
//! them. So from a socket they are read at once.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::source::Source;
use crate::writer::{BULK, TICK, Writer};

/// Most bytes to hold in memory that came from a pipe. The pipe keeps what comes after them.
const PIPE_CAPACITY: usize = 1024 * 1024;

/// Most bytes to hold in memory that came from a socket, whose sender may drop what is not read.
const SOCKET_CAPACITY: usize = 4 * 1024 * 1024;

/// Largest size of one read in bytes.
const LARGEST_READ: usize = 256 * 1024;

/// Smallest size of one read in bytes, with which a socket begins. Reading from a socket that is filled byte by byte takes
/// 1 us a byte, so a large read would last longer than a tick.
const SMALLEST_READ: usize = 4 * 1024;

/// Stop reading ahead when more than this is held, in bytes, and the write that is under way has taken longer than a tick.
const READ_AHEAD_MAX: usize = 1024 * 1024;

/// A read of fewer bytes than this is no part of a flood.
const SMALL_READ: usize = 4 * 1024;

/// A flood ends after this many small reads.
const FLOOD_END_READS: u32 = 3;

/// Pause between two reads from a socket: at 1 us a byte its buffer does not fill in that time. Linux may let a sleep take
/// 50 us longer (prctl(2), PR_SET_TIMERSLACK).
const SOCKET_PAUSE: Duration = Duration::from_micros(100);

/// A read this large means that we came late, in bytes: read again at once.
const LATE_READ: usize = 1000;

/// A socket is idle after this many reads that found nothing: wait until it is readable.
const IDLE_READS: u32 = 3;

/// Shortest time between two notes of pauses.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// When to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextRead {
    Now,
    /// After [`SOCKET_PAUSE`].
    Soon,
    At(Instant),
    WhenReadable,
}

/// Brings what comes from `source` to `writer`'s log, until the other end closes, or until `stop` and all that had come
/// by then is written. On a full disk it waits for room.
///
/// # Errors
/// When the source is no FIFO or socket, or cannot be read. All that was read before is in the log.
pub async fn capture(
    source: OwnedFd,
    writer: &mut Writer,
    stop: &CancellationToken,
    on_event: &mut dyn FnMut(Event),
) -> std::io::Result<()> {
    let mut capture = Capture::new(Source::new(source)?);
    let result = capture.run(writer, stop, on_event).await;
    writer.flush(on_event).await;
    capture.pauses.note(on_event);
    result
}

/// A source and the pace at which it is read.
struct Capture {
    source: Source,
    next_read: NextRead,
    /// How many more small reads end the flood that is under way; 0 when there is none.
    flood_reads_left: u32,
    /// Reads in a row that have found nothing.
    empty_reads: u32,
    /// Size of the next read in bytes.
    read_size: usize,
    pauses: Pauses,
}

impl Capture {
    fn new(source: Source) -> Capture {
        Capture {
            read_size: if source.is_pipe() { LARGEST_READ } else { SMALLEST_READ },
            source,
            next_read: NextRead::WhenReadable,
            flood_reads_left: 0,
            empty_reads: 0,
            pauses: Pauses::default(),
        }
    }

    async fn run(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        on_event: &mut dyn FnMut(Event),
    ) -> std::io::Result<()> {
        loop {
            let stopping = stop.is_cancelled(); // asked before the read: what has come by now is taken
            if stopping {
                self.source.unregister(); // so that the last read asks the kernel, not the runtime
            }
            if (stopping || self.is_due()) && self.take(writer, !stopping)?
                || stopping && self.has_room(writer)
            {
                return Ok(());
            }
            if self.flood_reads_left > 0 && self.source.is_pipe() {
                writer.write_here(on_event);
            } else {
                writer.write(false);
            }
            self.wait(writer, stop, stopping, on_event).await?;
            if matches!(self.next_read, NextRead::Now | NextRead::Soon) {
                tokio::task::yield_now().await; // a flood does not keep the other tasks from their work
            }
        }
    }

    fn is_due(&self) -> bool {
        match self.next_read {
            NextRead::Now | NextRead::Soon => true,
            NextRead::At(time) => time <= Instant::now(),
            NextRead::WhenReadable => false,
        }
    }

    fn has_room(&self, writer: &Writer) -> bool {
        let capacity = if self.source.is_pipe() { PIPE_CAPACITY } else { SOCKET_CAPACITY };
        writer.held() < capacity
    }

    /// Reads what is there, as far as there is room; during a flood only once, because more has come by the time that is
    /// written. Tells whether the other end has closed.
    fn take(&mut self, writer: &mut Writer, once: bool) -> std::io::Result<bool> {
        let once = once && (self.flood_reads_left > 0 || !self.source.is_pipe());
        // Some of what a pipe holds came right after the last read.
        let since = if let NextRead::At(time) = self.next_read { time - TICK } else { Instant::now() };
        let mut taken = 0;
        let mut closed = false;
        while self.has_room(writer) {
            let begin = Instant::now();
            let read = writer.add(since, |waiting| self.source.read(waiting, self.read_size))?;
            self.adjust_read_size(read, begin.elapsed());
            match read {
                Some(0) => closed = true,
                Some(length) => taken += length,
                None => break,
            }
            if once || closed {
                break;
            }
        }
        self.plan_next_read(taken);
        Ok(closed)
    }

    /// Makes the next read larger if this one was filled quickly, and smaller if it took long.
    fn adjust_read_size(&mut self, read: Option<usize>, time: Duration) {
        if time > TICK / 2 {
            self.read_size = (self.read_size / 2).max(SMALLEST_READ);
        } else if read >= Some(self.read_size) && time < TICK / 8 {
            self.read_size = (self.read_size * 2).min(LARGEST_READ);
        }
    }

    /// Decides when to read again, after `taken` bytes were read.
    fn plan_next_read(&mut self, taken: usize) {
        self.flood_reads_left = match taken {
            BULK.. => FLOOD_END_READS,
            SMALL_READ.. | 0 => self.flood_reads_left,
            _ => self.flood_reads_left.saturating_sub(1),
        };
        if self.flood_reads_left == 0 {
            self.source.unregister();
        }
        self.empty_reads = if taken == 0 { self.empty_reads + 1 } else { 0 };
        self.next_read = match taken {
            0 if self.source.is_pipe() || self.empty_reads >= IDLE_READS => NextRead::WhenReadable,
            _ if self.flood_reads_left > 0 => NextRead::Now,
            _ if self.source.is_pipe() => NextRead::At(Instant::now() + TICK),
            LATE_READ.. => NextRead::Now,
            _ => NextRead::Soon,
        };
    }

    /// Waits for whatever comes first: something to read, the time to read or write, or progress of the disk.
    async fn wait(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        stopping: bool,
        on_event: &mut dyn FnMut(Event),
    ) -> std::io::Result<()> {
        let has_room = self.has_room(writer);
        if has_room && stopping {
            return Ok(()); // a write has made it: the rest can be taken
        }
        if !has_room && !stopping {
            self.pauses.begin();
            return self.wait_for_room(writer, stop, on_event).await;
        }
        // During a flood there is no need to hold more while the disk is still writing.
        let held_back =
            writer.writing_since().filter(|_| writer.held() > READ_AHEAD_MAX).map(|since| since + TICK);
        let reading = !stopping && held_back.is_none_or(|until| until <= Instant::now());
        if reading && self.next_read == NextRead::Soon {
            std::thread::sleep(SOCKET_PAUSE); // the runtime's clock ticks in milliseconds
            return Ok(());
        }
        if reading && self.next_read == NextRead::Now {
            return Ok(());
        }
        if self.next_read == NextRead::WhenReadable && self.flood_reads_left == 0 {
            writer.release_spare_memory();
        }
        let read_at = if let NextRead::At(time) = self.next_read { Some(time) } else { None };
        let due = [read_at, writer.due(), held_back].into_iter().flatten().min();
        tokio::select! {
            ready = self.source.readable(), if reading && self.next_read == NextRead::WhenReadable => {
                ready?;
                self.next_read = NextRead::Now;
                if self.flood_reads_left == 0 {
                    self.source.unregister();
                    if self.source.is_pipe() {
                        self.next_read = NextRead::At(Instant::now() + TICK);
                    }
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            () = writer.progress(on_event) => {}
            () = stop.cancelled(), if !stopping => {}
        }
        Ok(())
    }

    async fn wait_for_room(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        on_event: &mut dyn FnMut(Event),
    ) -> std::io::Result<()> {
        let refused = writer.is_refused();
        tokio::select! {
            () = writer.progress(on_event) => {}
            () = stop.cancelled() => {}
        }
        // A pipe keeps what waits; and a disk that refuses to write has been noted as such.
        if self.source.is_pipe() || refused {
            self.pauses.forget();
        } else if self.has_room(writer) {
            self.pauses.end(on_event);
        }
        self.next_read = NextRead::Now;
        Ok(())
    }
}

/// The times in which nothing was read because the disk was too slow, on_event now and then.
#[derive(Default)]
struct Pauses {
    begun: Option<Instant>,
    unnoted: Duration,
    last_note: Option<Instant>,
}

impl Pauses {
    fn begin(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    fn forget(&mut self) {
        self.begun = None;
    }

    fn end(&mut self, on_event: &mut dyn FnMut(Event)) {
        self.unnoted += self.begun.take().map(|begun| begun.elapsed()).unwrap_or_default();
        if self.last_note.is_none_or(|last| last.elapsed() >= NOTE_INTERVAL) {
            self.note(on_event);
        }
    }

    fn note(&mut self, on_event: &mut dyn FnMut(Event)) {
        if !self.unnoted.is_zero() {
            on_event(Event::Paused(std::mem::take(&mut self.unnoted)));
            self.last_note = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
