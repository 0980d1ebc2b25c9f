//! From a VM's serial line to the log.
//!
//! A VMM hands its UART on byte by byte. A reader that woke for each would burn the CPU that the guest could use, so
//! this one sleeps a tick after the first byte and then takes all that has come. It writes whole lines, so that whoever
//! copies and truncates the log cuts between two of them; a line without its end waits one more tick, then it is written
//! as it is, because it may be a prompt.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::log::{Error, Log};
use crate::source::Source;

/// How long bytes are gathered. A byte is on disk after two of these at the latest, as far as the disk is quick.
const TICK: Duration = Duration::from_millis(4);

/// Most bytes to hold at once.
const CAPACITY: usize = 256 * 1024;

/// After a read of this size more is likely there already.
const BULK: usize = 64 * 1024;

/// A look that finds less than this is no part of a flood.
const TRICKLE: usize = 4 * 1024;

/// So many of them after the last large one end it; a socket gives what it has in pieces of its own, some of them small.
const PATIENCE: u32 = 3;

/// Longest pause between two attempts to write to a full disk.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Something that the owner of a capture may want to note.
#[derive(Debug)]
pub enum Event {
    /// The log cannot be written. What was read is kept, nothing more is read, and the guest waits.
    Stalled(Error),
    /// The log can be written again; nothing was lost.
    Resumed,
}

impl std::fmt::Display for Event {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Stalled(error) => {
                write!(formatter, "cannot be written, so the guest's output waits: {error}")
            }
            Event::Resumed => formatter.write_str("can be written again; nothing was lost"),
        }
    }
}

/// Brings what comes from `source` into `log`, until the other end closes, or until `stop` and all that had come by then
/// is written. On a full disk it waits for room.
///
/// # Errors
/// When the source is no FIFO or socket, or cannot be read.
pub async fn capture(
    source: OwnedFd,
    log: &mut Log,
    stop: &CancellationToken,
    noted: &mut dyn FnMut(Event),
) -> std::io::Result<()> {
    let mut source = Source::new(source)?;
    let mut pending = Pending::new();
    let mut idle = true; // the last look has found nothing
    let mut patience = 0; // while there is some, so much comes that there is no need to wait for more
    loop {
        let flood = patience > 0;
        if idle && (flood || pending.is_empty()) {
            tokio::select! {
                ready = source.readable() => ready?,
                () = sleep(TICK), if !pending.is_empty() => {}
                () = stop.cancelled() => {}
            }
        }
        if !flood {
            source.unregister();
            tokio::select! {
                () = sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
        let stopping = stop.is_cancelled(); // asked before the read: what has come by now is taken
        if stopping {
            source.unregister();
        }
        let waited = pending.length;
        let closed = pending.fill(&source, flood && !stopping)?;
        let last = closed || stopping && !pending.is_full();
        idle = pending.length == waited;
        let taken = pending.length - waited;
        patience = match taken {
            BULK.. => PATIENCE,
            TRICKLE.. | 0 => patience,
            _ => patience.saturating_sub(1),
        };
        let whole = if last { pending.length } else { pending.whole_lines(waited) };
        write(log, &pending.bytes[..whole], noted).await;
        pending.consume(whole);
        if last {
            return Ok(());
        }
        if flood {
            tokio::task::yield_now().await; // it does not keep the other tasks from their work
        }
    }
}

/// Bytes that were read and are not yet written.
struct Pending {
    bytes: Box<[u8]>,
    length: usize,
}

impl Pending {
    fn new() -> Pending {
        Pending { bytes: vec![0; CAPACITY].into_boxed_slice(), length: 0 }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn is_full(&self) -> bool {
        self.length == self.bytes.len()
    }

    /// Reads until nothing is there or the buffer is full, or in a flood just once: by the time that is written, more
    /// has come. Tells whether the other end has closed.
    fn fill(&mut self, source: &Source, once: bool) -> std::io::Result<bool> {
        while !self.is_full() {
            match source.read(&mut self.bytes[self.length..])? {
                Some(0) => return Ok(true),
                Some(length) => self.length += length,
                None => return Ok(false),
            }
            if once {
                break;
            }
        }
        Ok(false)
    }

    /// How many bytes to write now: whole lines; or all, when the first `waited` of them are a part of a line that has
    /// waited already and has not come to its end.
    fn whole_lines(&self, waited: usize) -> usize {
        match self.bytes[..self.length].iter().rposition(|&byte| byte == b'\n') {
            Some(last) => last + 1,
            None if waited > 0 || self.is_full() => self.length,
            None => 0,
        }
    }

    fn consume(&mut self, length: usize) {
        self.bytes.copy_within(length..self.length, 0);
        self.length -= length;
    }
}

/// Writes all of `bytes`, however long the disk stays full.
async fn write(log: &mut Log, mut bytes: &[u8], noted: &mut dyn FnMut(Event)) {
    let mut pause = TICK;
    while let Err(error) = log.append(bytes) {
        bytes = &bytes[error.written..];
        if pause == TICK {
            noted(Event::Stalled(error));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if pause > TICK {
        noted(Event::Resumed);
    }
}

#[cfg(test)]
mod tests;
