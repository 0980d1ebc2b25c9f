//! From a VM's serial line to the log, at the pace that `crate::pace` decides.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::pace::{Kind, NextRead, Pace};
use crate::source::Source;
use crate::writer::{BULK, Writer};

/// Pause between two reads from a socket: at 1 us a byte its buffer does not fill in that time.
/// Linux may let a sleep take 50 us longer (prctl(2), PR_SET_TIMERSLACK).
const SOCKET_PAUSE: Duration = Duration::from_micros(100);

/// Shortest time between two notes of pauses.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Brings what comes from `source` to `writer`'s log, until the other end closes, or until `stop`
/// and all that had come by then is written. On a full disk it waits for room, or loses what does
/// not fit ([`Writer::losing_beyond`]). Tells how it ended.
///
/// # Errors
/// When the source is no FIFO or socket, or cannot be read. All that was read before is in the log.
pub async fn capture(
    source: OwnedFd,
    writer: &mut Writer,
    stop: &CancellationToken,
    on_event: &mut dyn FnMut(Event),
) -> std::io::Result<Ended> {
    let mut capture = Capture::new(Source::new(source)?);
    let result = capture.run(writer, stop, on_event).await;
    writer.flush(on_event).await;
    capture.pauses.note(on_event);
    result
}

/// How a capture ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was stopped.
    Stopped,
    /// The other end has closed.
    Closed,
}

/// A source and the pace at which it is read.
struct Capture {
    source: Source,
    pace: Pace,
    pauses: Pauses,
}

impl Capture {
    fn new(source: Source) -> Capture {
        Capture { pace: Pace::new(source.kind()), source, pauses: Pauses::default() }
    }

    async fn run(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        on_event: &mut dyn FnMut(Event),
    ) -> std::io::Result<Ended> {
        loop {
            let stopping = stop.is_cancelled(); // asked before the read: what has come by now is taken
            if stopping {
                self.source.unregister(); // so that the last read asks the kernel, not the runtime
            }
            writer.tell_loss(on_event);
            let had_lost = writer.has_lost();
            let closed = (stopping || self.pace.is_due(Instant::now())) && self.take(writer, stopping)?;
            if writer.has_lost() && !had_lost {
                on_event(Event::Losing);
            }
            if closed {
                return Ok(Ended::Closed);
            }
            if stopping && self.keeps(writer) {
                return Ok(Ended::Stopped);
            }
            if self.pace.is_flood() && self.source.kind() == Kind::Pipe {
                writer.write_here(on_event);
            } else {
                writer.write(false);
            }
            self.wait(writer, stop, stopping, on_event).await?;
            if matches!(self.pace.next(), NextRead::Now | NextRead::Soon) {
                tokio::task::yield_now().await; // a flood does not keep the other tasks from their work
            }
        }
    }

    /// Whether what comes now is kept.
    fn keeps(&self, writer: &Writer) -> bool {
        // In non-blocking mode the buffer reports its own losses.
        (writer.loses() || self.pace.has_room(writer.held())) && writer.room() > 0
    }

    /// Reads what is there, as far as there is room, or as much as one look should. Tells whether
    /// the other end has closed.
    fn take(&mut self, writer: &mut Writer, stopping: bool) -> std::io::Result<bool> {
        let once = !stopping && self.pace.reads_once();
        let loses = !stopping && writer.loses(); // a guest that has stopped waits for nothing
        let since = self.pace.waited_since(Instant::now());
        let mut taken = 0;
        let mut closed = false;
        loop {
            let begin = Instant::now();
            let most = self.pace.read_size();
            let read = if self.keeps(writer) {
                let most = most.min(writer.room());
                writer.add(since, |buffer| self.source.read(buffer, most))?
            } else if loses && taken < BULK {
                writer.lose(|buffer| self.source.lose(buffer, most))?
            } else {
                break;
            };
            self.pace.after_read(read, begin.elapsed());
            match read {
                Some(0) => closed = true,
                Some(length) => taken += length,
                None => break,
            }
            if once || closed {
                break;
            }
        }
        self.pace.after_look(taken, Instant::now());
        if !self.pace.is_flood() {
            self.source.unregister();
        }
        Ok(closed)
    }

    /// Waits for whatever comes first: something to read, the time to read or write, or progress of
    /// the disk.
    async fn wait(
        &mut self,
        writer: &mut Writer,
        stop: &CancellationToken,
        stopping: bool,
        on_event: &mut dyn FnMut(Event),
    ) -> std::io::Result<()> {
        let has_room = self.keeps(writer) || !stopping && writer.loses();
        if has_room && stopping {
            return Ok(()); // a write has made it: the rest can be taken
        }
        if !has_room && !stopping {
            self.pauses.begin();
            return self.wait_for_room(writer, stop, on_event).await;
        }
        let next = self.pace.next();
        let held_back = self.pace.held_back_until(writer.held(), writer.writing_since());
        let reading = !stopping && held_back.is_none_or(|until| until <= Instant::now());
        if reading && matches!(next, NextRead::Soon | NextRead::Now) {
            if next == NextRead::Soon {
                std::thread::sleep(SOCKET_PAUSE); // the runtime's clock ticks in milliseconds
            }
            // A write that has come to its end is followed by the next, also while there is always
            // something to read.
            tokio::select! {
                biased;
                () = writer.progress(on_event) => {}
                () = std::future::ready(()) => {}
            }
            return Ok(());
        }
        if next == NextRead::WhenReadable && !self.pace.is_flood() {
            writer.release_spare_memory();
        }
        let read_at = if let NextRead::At(time) = next { Some(time) } else { None };
        let due = [read_at, writer.due(), held_back].into_iter().flatten().min();
        tokio::select! {
            ready = self.source.readable(), if reading && next == NextRead::WhenReadable => {
                ready?;
                self.pace.became_readable(Instant::now());
                if !self.pace.is_flood() {
                    self.source.unregister();
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
        if self.source.kind() == Kind::Pipe || refused {
            self.pauses.forget();
        } else if self.keeps(writer) {
            self.pauses.end(on_event);
        }
        self.pace.became_roomy();
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
