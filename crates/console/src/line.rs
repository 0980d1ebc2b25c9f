//! A serial line from its first connection to the VM's end, however often its other end closes in
//! between.
//!
//! To close the line cancel `stop`, at any moment. The future here owns both halves of every
//! connection: they are closed together, with the connection or with the future.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::capture::{Ended, capture};
use crate::event::Event;
use crate::keyboard::Keyboard;
use crate::writer::Writer;

/// First and longest pause between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// After a connection that lasted this long the next is made without a pause. One that was shorter
/// was perhaps taken over by another client, and two clients that take the line from each other at
/// once would do nothing else.
const STABLE_CONNECTION: Duration = Duration::from_secs(1);

/// A connection to the line.
#[derive(Debug)]
pub struct Line {
    /// The guest's output.
    pub output: OwnedFd,
    /// The guest's input; another descriptor of the same socket, where it is one.
    pub input: OwnedFd,
}

/// Brings all that comes from the line to `writer`'s log until `stop` is cancelled and all that had
/// come by then is written, and what is typed to the guest. When the other end closes before,
/// `connect` is asked for the line again.
pub async fn capture_line(
    first: Line,
    mut connect: impl AsyncFnMut() -> std::io::Result<Line>,
    writer: &mut Writer,
    keyboard: &Keyboard,
    stop: &CancellationToken,
    on_event: &mut dyn FnMut(Event),
) {
    let mut line = first;
    let mut pause = Duration::ZERO;
    loop {
        let connected = Instant::now();
        let Line { output, input } = line;
        let captured = tokio::select! {
            captured = capture(output, writer, stop, on_event) => captured,
            () = keyboard.give(&input) => Ok(Ended::Stopped), // which it does for ever
        };
        drop(input);
        let closed = Instant::now();
        if connected.elapsed() >= STABLE_CONNECTION {
            pause = Duration::ZERO;
        }
        let Some(again) = reconnect(&mut connect, &mut pause, stop).await else {
            if matches!(captured, Ok(Ended::Closed)) && writer.buffer().source_may_have_been_full() {
                on_event(Event::EndedFull);
            }
            return;
        };
        let error = captured.err();
        on_event(Event::Reconnected { gap: closed.elapsed(), error });
        line = again;
    }
}

/// Connects as soon as possible; `None` when `stop` was cancelled first.
async fn reconnect(
    connect: &mut impl AsyncFnMut() -> std::io::Result<Line>,
    pause: &mut Duration,
    stop: &CancellationToken,
) -> Option<Line> {
    loop {
        let attempt = async {
            sleep(*pause).await;
            connect().await
        };
        let attempt = tokio::select! {
            biased; // a connection that was made when it was not wanted any more is closed here, by dropping it
            () = stop.cancelled() => return None,
            attempt = attempt => attempt,
        };
        *pause = (*pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        if let Ok(line) = attempt {
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests;
