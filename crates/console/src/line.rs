//! A serial line from its first connection to the VM's end, however often its other end closes in between.
//!
//! Whoever wants the line closed cancels `stop`, at any moment. The future here owns the output of every connection: that is
//! closed with the future, and a connection that was made while `stop` was cancelled is read to its end and closed like every
//! other. (The shim holds the input of the first connection on its own.)

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::capture::capture;
use crate::writer::{Event, Writer};

/// First and longest pause between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// After a connection that lasted this long the next is made without a pause. One that was shorter was perhaps taken over by
/// another client, and two clients that take the line from each other at once would do nothing else.
const STABLE_CONNECTION: Duration = Duration::from_secs(1);

/// Brings all that comes from the line to `writer`'s log until `stop` is cancelled and all that had come by then is
/// written. When the other end closes before, `connect` is asked for the line again.
pub async fn capture_line(
    first: OwnedFd,
    mut connect: impl AsyncFnMut() -> std::io::Result<OwnedFd>,
    writer: &mut Writer,
    stop: &CancellationToken,
    on_event: &mut dyn FnMut(Event),
) {
    let mut source = first;
    let mut pause = Duration::ZERO;
    loop {
        let connected = Instant::now();
        let error = capture(source, writer, stop, on_event).await.err();
        if stop.is_cancelled() {
            return;
        }
        let closed = Instant::now();
        if connected.elapsed() >= STABLE_CONNECTION {
            pause = Duration::ZERO;
        }
        let Some(again) = reconnect(&mut connect, &mut pause, stop).await else { return };
        on_event(Event::Reconnected { gap: closed.elapsed(), error });
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
