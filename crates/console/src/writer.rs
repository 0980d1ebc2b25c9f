//! A log that is written on a thread of its own, so that whoever reads a console never waits for the disk.
//!
//! Between the reader and the disk is a bounded buffer. One part of it is being written, the other gathers what comes
//! meanwhile. It is written as whole lines, so that whoever copies and truncates the log cuts between two of them; a line
//! without its end waits one more tick, then it is written as it is, because it may be a prompt.

use std::future::pending;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::event::Event;
use crate::log::{Error, Log};

/// How long bytes are gathered before they are written, unless there are many. On a quick disk a byte is written after two
/// ticks at the latest.
pub(crate) const TICK: Duration = Duration::from_millis(4);

/// This many bytes are written without waiting for the tick.
pub(crate) const BULK: usize = 64 * 1024;

/// Longest pause between two attempts to write to a full disk.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Capacity that each of the two buffers keeps when there is nothing to write, in bytes.
const SPARE_CAPACITY: usize = 256 * 1024;

/// A log and what is on its way to it.
#[derive(Debug)]
pub struct Writer {
    /// Read, and not yet given to the disk.
    waiting: Vec<u8>,
    /// When the first of it may have come.
    since: Instant,
    /// An unfinished line at its beginning has waited for its end long enough.
    overdue: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is being written. The vector is the buffer of the last write, to be used again.
    Idle(Log, Vec<u8>),
    /// A write of this many bytes is under way since the instant.
    Writing(JoinHandle<Outcome>, usize, Instant),
    /// The disk has refused them; the next attempt is due at the instant.
    Refused { outcome: Box<Outcome>, retry: Instant, pause: Duration },
    /// A placeholder, only while one of the others is being replaced.
    Changing,
}

/// What a write came to.
#[derive(Debug)]
struct Outcome {
    log: Log,
    /// What it did not write.
    rest: Vec<u8>,
    refused: Option<Error>,
}

impl Writer {
    /// A writer to `log`.
    #[must_use]
    pub fn new(log: Log) -> Writer {
        let state = State::Idle(log, Vec::new());
        Writer { waiting: Vec::new(), since: Instant::now(), overdue: false, state }
    }

    /// How many bytes it holds that are not yet known to be in the log.
    pub(crate) fn held(&self) -> usize {
        let given = match &self.state {
            State::Writing(_, length, _) => *length,
            State::Refused { outcome, .. } => outcome.rest.len(),
            State::Idle(..) | State::Changing => 0,
        };
        given + self.waiting.len()
    }

    /// Whether the disk has refused what it was given.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused { .. })
    }

    /// When the write that is under way was started.
    pub(crate) fn writing_since(&self) -> Option<Instant> {
        if let State::Writing(_, _, since) = &self.state { Some(*since) } else { None }
    }

    /// Gives back the memory that only a flood needs, if there is nothing to write.
    pub(crate) fn release_spare_memory(&mut self) {
        if let State::Idle(_, spare) = &mut self.state
            && self.waiting.is_empty()
        {
            spare.clear();
            spare.shrink_to(SPARE_CAPACITY);
            self.waiting.shrink_to(SPARE_CAPACITY);
        }
    }

    /// Adds what `read` appends, all of which came after `since`.
    pub(crate) fn add<T>(&mut self, since: Instant, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.waiting.is_empty() {
            self.since = since;
        }
        read(&mut self.waiting)
    }

    /// When the next write is due; `None` when there is nothing to write or a write is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        let idle = matches!(self.state, State::Idle(..)) && !self.waiting.is_empty();
        idle.then(|| if self.waiting.len() >= BULK && !self.overdue { self.since } else { self.since + TICK })
    }

    /// Starts the next write if it is due, or if this is the `last` one.
    pub(crate) fn write(&mut self, last: bool) {
        if let Some((log, batch)) = self.batch(last) {
            let length = batch.len();
            self.state = State::Writing(spawn_blocking(|| append(log, batch)), length, self.since);
        }
    }

    /// Does the next write if it is due, on this thread: for a source that keeps what waits it is quicker.
    pub(crate) fn write_here(&mut self, on_event: &mut dyn FnMut(Event)) {
        if let Some((log, batch)) = self.batch(false) {
            self.finish(append(log, batch), TICK, on_event);
        }
    }

    /// Takes what is to be written now, with the log to write it to.
    fn batch(&mut self, last: bool) -> Option<(Log, Vec<u8>)> {
        let now = Instant::now();
        if !last && self.due()? > now || self.waiting.is_empty() {
            return None;
        }
        let lines = self.waiting.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let length = if last || lines == 0 && self.overdue { self.waiting.len() } else { lines };
        self.overdue = length < self.waiting.len();
        self.since = now;
        match std::mem::replace(&mut self.state, State::Changing) {
            State::Idle(log, mut spare) if length > 0 => {
                spare.clear();
                spare.extend_from_slice(&self.waiting[length..]);
                let mut batch = std::mem::replace(&mut self.waiting, spare);
                batch.truncate(length);
                Some((log, batch))
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Waits for the disk: until it has taken or refused what it was given, or it is time to try again.
    pub(crate) async fn progress(&mut self, on_event: &mut dyn FnMut(Event)) {
        match &mut self.state {
            State::Idle(..) | State::Changing => pending().await,
            State::Writing(write, ..) => match write.await {
                Ok(outcome) => self.finish(outcome, TICK, on_event),
                Err(error) => std::panic::resume_unwind(error.into_panic()), // nobody aborts it
            },
            State::Refused { retry, .. } => {
                sleep_until(*retry).await;
                if let State::Refused { outcome, pause, .. } =
                    std::mem::replace(&mut self.state, State::Changing)
                {
                    // Tried right here, where the length of the pause is known: a full disk answers at once.
                    self.finish(append(outcome.log, outcome.rest), (pause * 2).min(LONGEST_PAUSE), on_event);
                }
            }
        }
    }

    fn finish(&mut self, mut outcome: Outcome, pause: Duration, on_event: &mut dyn FnMut(Event)) {
        let Some(error) = outcome.refused.take() else {
            if pause > TICK {
                on_event(Event::Resumed);
            }
            self.state = State::Idle(outcome.log, outcome.rest);
            return;
        };
        if pause == TICK {
            on_event(Event::Stalled(error));
        }
        let retry = Instant::now() + pause;
        self.state = State::Refused { outcome: Box::new(outcome), retry, pause };
    }

    /// Waits until all is in the log, however long the disk stays full.
    pub(crate) async fn flush(&mut self, on_event: &mut dyn FnMut(Event)) {
        self.write(true);
        while self.held() > 0 {
            self.progress(on_event).await;
            self.write(true);
        }
    }
}

fn append(mut log: Log, mut batch: Vec<u8>) -> Outcome {
    let refused = log.append(&batch).err();
    let written = refused.as_ref().map_or(batch.len(), |error| error.written);
    batch.drain(..written);
    Outcome { log, rest: batch, refused }
}
