//! From a VM's serial line to the log.
//!
//! A VMM hands its UART on byte by byte. What is in a pipe costs nobody anything, so there a reader that woke for each
//! byte would burn the CPU that the guest could use: it sleeps a tick after the first byte and then takes all that has
//! come. A socket has room for some 280 single bytes before its sender has to wait (unix(7), SO_SNDBUF counts overhead), or
//! drops them, so from there they are taken at once.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::source::Source;
use crate::writer::{BULK, TICK, Writer};

pub use crate::writer::Event;

/// Most bytes to hold of a pipe, which keeps the others itself.
const PIPE_CAPACITY: usize = 1024 * 1024;

/// Most bytes to hold of a socket, whose sender may drop what we do not take.
const SOCKET_CAPACITY: usize = 4 * 1024 * 1024;

/// Most and fewest bytes to read at once. A socket that is filled byte by byte while it is read takes 1 us for each: there
/// a large read would last longer than a tick.
const CHUNK: usize = 256 * 1024;
const SMALL_CHUNK: usize = 4 * 1024;

/// So much is held without need, while a write takes no longer than a tick.
const ENOUGH: usize = 1024 * 1024;

/// A look that finds less than this is no part of a flood.
const TRICKLE: usize = 4 * 1024;

/// So many of them after the last large one end it.
const PATIENCE: u32 = 3;

/// How long to let bytes gather in a socket's buffer, which at 1 us a byte does not fill in that time. With the 50 us by
/// which Linux lets a sleep take longer (prctl(2), PR_SET_TIMERSLACK) it is twice as much.
const MOMENT: Duration = Duration::from_micros(100);

/// A look that finds so much was late already.
const HANDFUL: usize = 1000;

/// So many looks that find nothing tell that a socket is quiet.
const QUIET: u32 = 3;

/// Shortest time between two notes of pauses.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// When to look at the source next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Now,
    /// After a moment in which more may come.
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
    noted: &mut dyn FnMut(Event),
) -> std::io::Result<()> {
    let mut capture = Capture::new(Source::new(source)?);
    let result = capture.run(writer, stop, noted).await;
    writer.flush(noted).await;
    capture.pauses.note(noted);
    result
}

/// A source and the pace at which it is read.
struct Capture {
    source: Source,
    look: Look,
    /// While there is some, so much comes that there is no need to wait for more.
    patience: u32,
    /// Looks in a row that have found nothing.
    quiet: u32,
    /// How much to read at once.
    chunk: usize,
    pauses: Pauses,
}

impl Capture {
    fn new(source: Source) -> Capture {
        let chunk = if source.is_pipe() { CHUNK } else { SMALL_CHUNK };
        Capture { source, look: Look::WhenReadable, patience: 0, quiet: 0, chunk, pauses: Pauses::default() }
    }

    async fn run(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        noted: &mut dyn FnMut(Event),
    ) -> std::io::Result<()> {
        loop {
            let stopping = stop.is_cancelled(); // asked before the read: what has come by now is taken
            if stopping {
                self.source.unregister(); // the truth, not what the runtime knows of it
            }
            if (stopping || self.is_due()) && self.take(writer, !stopping)?
                || stopping && self.has_room(writer)
            {
                return Ok(());
            }
            if self.patience > 0 && self.source.is_pipe() {
                writer.write_here(noted);
            } else {
                writer.write(false);
            }
            self.wait(writer, stop, stopping, noted).await?;
            if matches!(self.look, Look::Now | Look::Soon) {
                tokio::task::yield_now().await; // a flood does not keep the other tasks from their work
            }
        }
    }

    fn is_due(&self) -> bool {
        match self.look {
            Look::Now | Look::Soon => true,
            Look::At(time) => time <= Instant::now(),
            Look::WhenReadable => false,
        }
    }

    fn has_room(&self, writer: &Writer) -> bool {
        let capacity = if self.source.is_pipe() { PIPE_CAPACITY } else { SOCKET_CAPACITY };
        writer.held() < capacity
    }

    /// Takes what is there, as far as there is room; in a flood just once, for by the time that is written, more has
    /// come. Tells whether the other end has closed.
    fn take(&mut self, writer: &mut Writer, once: bool) -> std::io::Result<bool> {
        let once = once && (self.patience > 0 || !self.source.is_pipe());
        // Of what a pipe has, some came right after the last look.
        let since = if let Look::At(time) = self.look { time - TICK } else { Instant::now() };
        let mut taken = 0;
        let mut closed = false;
        while self.has_room(writer) {
            let begin = Instant::now();
            let read = writer.add(since, |waiting| self.source.read(waiting, self.chunk))?;
            self.fit_chunk(read, begin.elapsed());
            match read {
                Some(0) => closed = true,
                Some(length) => taken += length,
                None => break,
            }
            if once || closed {
                break;
            }
        }
        self.pace(taken);
        Ok(closed)
    }

    /// Reads more at once next time if that was too little, and less if it took long.
    fn fit_chunk(&mut self, read: Option<usize>, time: Duration) {
        if time > TICK / 2 {
            self.chunk = (self.chunk / 2).max(SMALL_CHUNK);
        } else if read >= Some(self.chunk) && time < TICK / 8 {
            self.chunk = (self.chunk * 2).min(CHUNK);
        }
    }

    /// Decides when to look again, after a look that found `taken` bytes.
    fn pace(&mut self, taken: usize) {
        self.patience = match taken {
            BULK.. => PATIENCE,
            TRICKLE.. | 0 => self.patience,
            _ => self.patience.saturating_sub(1),
        };
        if self.patience == 0 {
            self.source.unregister();
        }
        self.quiet = if taken == 0 { self.quiet + 1 } else { 0 };
        self.look = match taken {
            0 if self.source.is_pipe() || self.quiet >= QUIET => Look::WhenReadable,
            _ if self.patience > 0 => Look::Now,
            _ if self.source.is_pipe() => Look::At(Instant::now() + TICK),
            HANDFUL.. => Look::Now,
            _ => Look::Soon,
        };
    }

    /// Waits for whatever comes first: something to read, the time to read or write, or progress of the disk.
    async fn wait(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        stopping: bool,
        noted: &mut dyn FnMut(Event),
    ) -> std::io::Result<()> {
        let has_room = self.has_room(writer);
        if has_room && stopping {
            return Ok(()); // a write has made it: the rest can be taken
        }
        if !has_room && !stopping {
            self.pauses.begin();
            return self.wait_for_room(writer, stop, noted).await;
        }
        // A flood need not be held by us as long as the disk keeps up with it.
        let held_back = writer.writing_since().filter(|_| writer.held() > ENOUGH).map(|since| since + TICK);
        let reading = !stopping && held_back.is_none_or(|until| until <= Instant::now());
        if reading && self.look == Look::Soon {
            std::thread::sleep(MOMENT); // the runtime's clock ticks in milliseconds
            return Ok(());
        }
        if reading && self.look == Look::Now {
            return Ok(());
        }
        if self.look == Look::WhenReadable && self.patience == 0 {
            writer.rest();
        }
        let look_at = if let Look::At(time) = self.look { Some(time) } else { None };
        let due = [look_at, writer.due(), held_back].into_iter().flatten().min();
        tokio::select! {
            ready = self.source.readable(), if reading && self.look == Look::WhenReadable => {
                ready?;
                self.look = Look::Now;
                if self.patience == 0 {
                    self.source.unregister();
                    if self.source.is_pipe() {
                        self.look = Look::At(Instant::now() + TICK);
                    }
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            () = writer.progress(noted) => {}
            () = stop.cancelled(), if !stopping => {}
        }
        Ok(())
    }

    async fn wait_for_room(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        noted: &mut dyn FnMut(Event),
    ) -> std::io::Result<()> {
        let refused = writer.is_refused();
        tokio::select! {
            () = writer.progress(noted) => {}
            () = stop.cancelled() => {}
        }
        // A pipe keeps what waits; and a disk that refuses to write has been noted as such.
        if self.source.is_pipe() || refused {
            self.pauses.forget();
        } else if self.has_room(writer) {
            self.pauses.end(noted);
        }
        self.look = Look::Now;
        Ok(())
    }
}

/// The times in which nothing was read because the disk was too slow, noted now and then.
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

    fn end(&mut self, noted: &mut dyn FnMut(Event)) {
        self.unnoted += self.begun.take().map(|begun| begun.elapsed()).unwrap_or_default();
        if self.last_note.is_none_or(|last| last.elapsed() >= NOTE_INTERVAL) {
            self.note(noted);
        }
    }

    fn note(&mut self, noted: &mut dyn FnMut(Event)) {
        if !self.unnoted.is_zero() {
            noted(Event::Paused(std::mem::take(&mut self.unnoted)));
            self.last_note = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
