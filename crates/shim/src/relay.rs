//! Relay between clients and the guest's agent: each client has a stream of its own.

use std::rc::Rc;
use std::time::Duration;

use hypeman_agent::mux::Stream;
use hypeman_record::launch::Guest;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use crate::old_init;
use crate::order::{Error, Result};
use crate::policy::Phase;
use crate::shared::Shared;

/// Timeout for an agent to be there when the program runs beside which it is started.
const COMING: Duration = Duration::from_secs(10);

/// How long a guest that boots is waited for.
const BOOTING: Duration = Duration::from_secs(120);

/// Interval for polling whether it still can be.
const LOOK: Duration = Duration::from_millis(50);

/// As much as the streams send at once.
const CHUNK: usize = 64 * 1024;

/// Waits until the agent is there. A guest that boots is waited for; one that has booted has to
/// have it soon.
pub(crate) async fn reach(shared: &Shared) -> Result<()> {
    if shared.launch.guest == Guest::Bare || old_init::is_in(&shared.launch) {
        return Err(Error::NoInit);
    }
    let (begun, mut deadline) = (Instant::now(), None);
    loop {
        let (phase, is_paused) = {
            let published = shared.published.borrow();
            (published.phase, published.paused.is_some())
        };
        if phase >= Phase::Ending {
            return Err(crate::policy::Denial::TooLate.into());
        }
        if is_paused {
            return Err(Error::Paused);
        }
        if shared.agent.is_there() {
            return Ok(());
        }
        if begun.elapsed() > BOOTING {
            return Err(Error::NoAgent);
        }
        if shared.is_up() && *deadline.get_or_insert(Instant::now() + COMING) < Instant::now() {
            return Err(Error::NoAgent);
        }
        tokio::select! {
            () = shared.agent.come() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// A stream to the agent.
pub(crate) async fn open(shared: &Rc<Shared>) -> Result<(Stream, OwnedSemaphorePermit)> {
    reach(shared).await?;
    shared.agent.open().await.ok_or(Error::Busy)
}

/// Joins a client to it, until either has nothing more to say: the agent's last message is the end
/// of an exchange, and so is the client's hanging up.
pub(crate) async fn join(
    mut from_client: impl AsyncRead + Unpin,
    mut to_client: impl AsyncWrite + Unpin,
    (stream, _permit): (Stream, OwnedSemaphorePermit),
) {
    let (from_agent, mut to_agent) = tokio::io::split(stream);
    let mut from_agent = BufReader::with_capacity(CHUNK, from_agent);
    let mut from_client = BufReader::with_capacity(CHUNK, &mut from_client);
    tokio::select! {
        _ = copy_buf(&mut from_agent, &mut to_client) => {}
        _ = copy_buf(&mut from_client, &mut to_agent) => {}
    }
    let _ = to_client.shutdown().await;
}
