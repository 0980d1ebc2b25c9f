//! A log that is written on a thread of its own, so that the reader of a console never waits for
//! the disk.
//!
//! Between the reader and the disk is a bounded buffer (`crate::buffer`). One part of it is being
//! written, the other gathers what comes meanwhile. It is written as whole lines, so that whoever
//! copies and truncates the log cuts between two of them; a line without its end waits one more
//! tick, then it is written as it is, because it may be a prompt.

use std::future::pending;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use jiff::Timestamp;

use crate::buffer::{Batch, Buffer, Loss};
use crate::event::Event;
use crate::log::{Error, Log};

/// How long bytes are gathered before they are written, unless there are many. On a quick disk a
/// byte is written after two ticks at the latest.
pub(crate) const TICK: Duration = Duration::from_millis(4);

/// This many bytes are written without waiting for the tick.
pub(crate) const BULK: usize = 64 * 1024;

/// Longest pause between two attempts to write to a full disk.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Memory that the buffer keeps when there is nothing to write, in bytes.
const SPARE_CAPACITY: usize = 256 * 1024;

/// A log and what is on its way to it.
#[derive(Debug)]
pub struct Writer {
    /// Read, and not yet in the log.
    buffer: Buffer,
    /// Position in the buffer up to which it was given to the disk.
    given: u64,
    /// When the first of what was not may have come.
    since: Instant,
    /// An unfinished line at its beginning has waited for its end long enough.
    overdue: bool,
    /// So many bytes may wait before what comes is lost. Without it, it waits where it comes from.
    loses_beyond: Option<usize>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is being written.
    Idle(Log),
    /// A write is under way since the instant.
    Writing(JoinHandle<Outcome>, Instant),
    /// The disk has refused it; the next attempt is due at the instant.
    Refused { outcome: Box<Outcome>, retry: Instant, pause: Duration },
    /// A placeholder, only while one of the others is being replaced.
    Changing,
}

/// Result of a write.
#[derive(Debug)]
struct Outcome {
    log: Log,
    /// The data; part of it is unwritten if the write was refused.
    batch: Batch,
    refused: Option<Error>,
}

impl Writer {
    /// A writer to `log` of what is in `buffer` and comes into it.
    #[must_use]
    pub fn new(log: Log, buffer: Buffer) -> Writer {
        let given = buffer.tail() - buffer.held() as u64;
        Writer {
            given,
            buffer,
            since: Instant::now(),
            overdue: false,
            loses_beyond: None,
            state: State::Idle(log),
        }
    }

    /// Never lets a console wait: what does not fit into so many bytes of memory is lost, counted,
    /// and told in the log.
    #[must_use]
    pub fn losing_beyond(mut self, bytes: usize) -> Writer {
        self.loses_beyond = Some(bytes);
        self
    }

    /// Has a line begin with what comes next, unless there is something that is not in the log yet.
    #[must_use]
    pub fn beginning_line(mut self) -> Writer {
        if let (State::Idle(log), 0) = (&mut self.state, self.buffer.held()) {
            log.begin_line();
        }
        self
    }

    /// The memory of what is not in the log yet.
    #[must_use]
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// How many bytes it holds that are not yet known to be in the log.
    pub(crate) fn held(&self) -> usize {
        self.buffer.held()
    }

    /// How many of the bytes that come now it keeps.
    pub(crate) fn room(&self) -> usize {
        if self.has_lost() {
            return 0; // what comes after a loss stands behind the line that tells it
        }
        let limit = self.loses_beyond.unwrap_or(usize::MAX);
        limit.saturating_sub(self.held()).min(self.buffer.room())
    }

    /// Whether something is lost that the log does not tell yet.
    pub(crate) fn has_lost(&self) -> bool {
        self.buffer.loss().is_some()
    }

    /// Whether it loses what it does not keep, instead of leaving it where it is.
    pub(crate) fn loses(&self) -> bool {
        self.loses_beyond.is_some()
    }

    /// Tells in the log what was lost, when that is written again and half of the memory is free:
    /// what is lost from then on has a line of its own.
    pub(crate) fn tell_loss(&mut self, on_event: &mut dyn FnMut(Event)) {
        let has_room = self.loses_beyond.is_none_or(|limit| self.held() <= limit / 2);
        if !self.has_lost() || self.is_refused() || !has_room {
            return;
        }
        let since = Instant::now();
        if let Some(loss) = self.add(since, |buffer| buffer.tell_loss(line)) {
            on_event(Event::Lost(loss));
        }
    }

    /// Whether the disk has refused what it was given.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused { .. })
    }

    /// When the write that is under way was started.
    pub(crate) fn writing_since(&self) -> Option<Instant> {
        if let State::Writing(_, since) = &self.state { Some(*since) } else { None }
    }

    /// Gives back the memory that only a flood needs, if there is nothing to write.
    pub(crate) fn release_spare_memory(&mut self) {
        self.buffer.shrink(SPARE_CAPACITY);
    }

    /// Adds what `read` puts into the buffer, all of which came after `since`.
    pub(crate) fn add<T>(&mut self, since: Instant, read: impl FnOnce(&mut Buffer) -> T) -> T {
        if self.waiting() == 0 {
            self.since = since;
        }
        read(&mut self.buffer)
    }

    /// Has `read` take what nobody keeps.
    pub(crate) fn lose<T>(&mut self, read: impl FnOnce(&mut Buffer) -> T) -> T {
        read(&mut self.buffer)
    }

    /// How many bytes the disk was not given yet.
    fn waiting(&self) -> usize {
        usize::try_from(self.buffer.tail() - self.given).unwrap_or(usize::MAX)
    }

    /// When the next write is due; `None` when there is nothing to write or a write is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        let idle = matches!(self.state, State::Idle(..)) && self.waiting() > 0;
        idle.then(|| if self.waiting() >= BULK && !self.overdue { self.since } else { self.since + TICK })
    }

    /// Starts the next write if it is due, or if this is the `last` one.
    pub(crate) fn write(&mut self, last: bool) {
        if let Some((log, batch)) = self.batch(last) {
            self.state = State::Writing(spawn_blocking(|| append(log, batch)), self.since);
        }
    }

    /// Does the next write if it is due, on this thread: for a source that keeps what waits it is
    /// quicker.
    pub(crate) fn write_here(&mut self, on_event: &mut dyn FnMut(Event)) {
        if let Some((log, batch)) = self.batch(false) {
            self.finish(append(log, batch), TICK, on_event);
        }
    }

    /// Takes what is to be written now, with the log to write it to.
    fn batch(&mut self, last: bool) -> Option<(Log, Batch)> {
        let now = Instant::now();
        if !last && self.due()? > now || self.waiting() == 0 {
            return None;
        }
        let (waiting, lines) = (self.buffer.tail() - self.given, self.buffer.lines(self.given));
        let length = if last || lines == 0 && self.overdue { waiting } else { lines };
        self.overdue = length < waiting;
        self.since = now;
        let to = self.given + length;
        match std::mem::replace(&mut self.state, State::Changing) {
            State::Idle(log) if length > 0 => {
                self.given = to;
                Some((log, self.buffer.lend(to)))
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Waits for the disk: until it has taken or refused what it was given, or it is time to try
    /// again.
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
                    // Tried right here, where the length of the pause is known: a full disk answers
                    // at once.
                    self.finish(append(outcome.log, outcome.batch), (pause * 2).min(LONGEST_PAUSE), on_event);
                }
            }
        }
    }

    fn finish(&mut self, mut outcome: Outcome, pause: Duration, on_event: &mut dyn FnMut(Event)) {
        let rotations = outcome.log.take_rotations();
        if rotations > 0 {
            on_event(Event::Rotated(rotations));
        }
        let Some(error) = outcome.refused.take() else {
            if pause > TICK {
                on_event(Event::Resumed);
            }
            self.buffer.release(outcome.batch);
            self.state = State::Idle(outcome.log);
            return;
        };
        if pause == TICK {
            on_event(Event::Stalled { error, loses_beyond: self.loses_beyond });
        }
        let retry = Instant::now() + pause;
        self.state = State::Refused { outcome: Box::new(outcome), retry, pause };
    }

    /// Waits until all is in the log, however long the disk stays full.
    pub(crate) async fn flush(&mut self, on_event: &mut dyn FnMut(Event)) {
        self.tell_loss(on_event);
        self.write(true);
        while self.held() > 0 || self.has_lost() {
            self.progress(on_event).await;
            self.tell_loss(on_event);
            self.write(true);
        }
    }
}

/// Returns the log's line at the place of a loss.
fn line(loss: Loss) -> String {
    let time = |time| Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default();
    let (since, until) = (time(loss.since), time(loss.until));
    format!("[hypeman: {} bytes of output are missing here, from {since} to {until}]", loss.bytes)
}

fn append(mut log: Log, batch: Batch) -> Outcome {
    let refused = loop {
        let bytes = batch.next();
        if bytes.is_empty() {
            break None;
        }
        if let Err(refused) = log.append_with(&bytes, &batch) {
            break Some(refused);
        }
    };
    Outcome { log, batch, refused }
}
