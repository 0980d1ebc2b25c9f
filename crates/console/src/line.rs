//! A serial line from its first connection to the VM's end, however often its other end closes in between.
//!
//! Whoever wants the line closed cancels `stop`, at any moment. Nothing but the future here owns a connection: it is dropped
//! with the future, and one that was made while `stop` was cancelled is read to its end and dropped, like every other.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::capture::capture;
use crate::writer::{Event, Writer};

/// First and longest pause between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that lived so long was a good one: the next is made without a pause. With two clients that take the line
/// from each other it keeps the peace.
const GOOD: Duration = Duration::from_secs(1);

/// Brings all that comes from the line to `writer`'s log until `stop` is cancelled and all that had come by then is
/// written. When the other end closes before, `connect` is asked for the line again.
pub async fn keep(
    first: OwnedFd,
    mut connect: impl AsyncFnMut() -> std::io::Result<OwnedFd>,
    writer: &mut Writer,
    stop: &CancellationToken,
    noted: &mut dyn FnMut(Event),
) {
    let mut source = first;
    let mut pause = Duration::ZERO;
    loop {
        let connected = Instant::now();
        let error = capture(source, writer, stop, noted).await.err();
        if stop.is_cancelled() {
            return;
        }
        let closed = Instant::now();
        if connected.elapsed() >= GOOD {
            pause = Duration::ZERO;
        }
        let Some(again) = reconnect(&mut connect, &mut pause, stop).await else { return };
        noted(Event::Reconnected { gap: closed.elapsed(), error });
        source = again;
    }
}

/// Connects as soon as possible; `None` when `stop` was cancelled first.
async fn reconnect(
    connect: &mut impl AsyncFnMut() -> std::io::Result<OwnedFd>,
    pause: &mut Duration,
    stop: &CancellationToken,
) -> Option<OwnedFd> {
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
        if let Ok(source) = attempt {
            return Some(source);
        }
    }
}

#[cfg(test)]
mod tests;
