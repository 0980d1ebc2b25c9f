//! Events of a capture for its owner.

use std::time::Duration;

use crate::buffer::Loss;
use crate::log::Error;

/// Something that the owner of a log may want to note.
#[derive(Debug)]
pub enum Event {
    /// The log cannot be written. What was read is kept. When there is no room for more the guest
    /// waits.
    Stalled {
        /// Why.
        error: Error,
        /// The guest does not wait: what it prints is lost when so many bytes are kept.
        loses_beyond: Option<usize>,
    },
    /// The log can be written again; what was kept is not lost.
    Resumed,
    /// There is no room for what comes: it is being lost.
    Losing,
    /// So much was lost. The log tells it too.
    Lost(Loss),
    /// The log was rotated so many times.
    Rotated(u64),
    /// The disk was too slow for all that came: nothing was read for so long, in all, since this
    /// was last noted.
    Paused(Duration),
    /// The other end had closed the line, and now it is connected again.
    Reconnected {
        /// How long it was not.
        gap: Duration,
        /// How the old connection failed, if it did not just end.
        error: Option<std::io::Error>,
    },
    /// The line was closed for good, and its socket may have been full when something came last. An
    /// end that does not wait for its reader has perhaps not sent all.
    EndedFull,
    /// The writer of the log was killed while it wrote so many bytes, and someone has moved or cut
    /// the file since: they are assumed written.
    Uncertain(usize),
}

impl std::fmt::Display for Event {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Stalled { error, loses_beyond: None } => {
                write!(formatter, "cannot be written, so the guest's output waits: {error}")
            }
            Event::Stalled { error, loses_beyond: Some(limit) } => {
                write!(
                    formatter,
                    "cannot be written, so the guest's output is lost beyond {limit} bytes: {error}"
                )
            }
            Event::Resumed => formatter.write_str("can be written again, and the waiting output is written"),
            Event::Losing => formatter.write_str("has no room for the guest's output, which is being lost"),
            Event::Lost(loss) => write!(
                formatter,
                "{} bytes of the guest's output were lost: there was no room for them",
                loss.bytes
            ),
            Event::Rotated(times) => write!(formatter, "rotated {times} times"),
            Event::Paused(time) => write!(
                formatter,
                "the disk was slower than the guest: the buffer was full, and reading paused for {} ms",
                time.as_millis()
            ),
            Event::Reconnected { gap, error } => {
                write!(
                    formatter,
                    "the VMM closed the line, and it was connected again {} ms later; what the guest printed in between may \
                     be missing",
                    gap.as_millis()
                )?;
                error.as_ref().map_or(Ok(()), |error| write!(formatter, " ({error})"))
            }
            Event::EndedFull => formatter.write_str(
                "the VMM ended when it may have been holding output back for which the console's connection had no room; that is missing",
            ),
            Event::Uncertain(length) => write!(
                formatter,
                "the shim was killed while it wrote {length} bytes, and the file was moved or cut since; they may be missing"
            ),
        }
    }
}
