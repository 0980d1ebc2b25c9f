//! Exchanges with the agent of an instance that runs.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hypeman_agent::frames;
use hypeman_agent::protocol::Request;
use hypeman_instance::attach;
use hypeman_instance::store::Instance;
use hypeman_record::state::State;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::context::hypeman;

/// How long a VM that is on its way to another state may take to be there.
const SETTLING: Duration = Duration::from_secs(3);

/// A stream for one exchange. Needs a runtime.
pub(crate) fn connect(instance: &Instance) -> Result<UnixStream> {
    let stream = attach::agent(instance, &hypeman()?)?;
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

/// Asks for something that is answered in one message.
pub(crate) async fn ask<T: DeserializeOwned>(instance: &Instance, request: &Request) -> Result<T> {
    let mut stream = connect(instance)?;
    let exchange = async {
        frames::write_message(&mut stream, request).await?;
        frames::read_message(&mut stream).await
    };
    exchange.await.map_err(|error| explained(error.into(), instance))
}

/// A connection that breaks is the end of the VM, or of something between it and us.
pub(crate) fn explained(error: anyhow::Error, instance: &Instance) -> anyhow::Error {
    let is_broken =
        |error: &std::io::Error| [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind());
    if !error.downcast_ref().is_some_and(is_broken) {
        return error;
    }
    let name = &instance.record.name;
    match settled(instance) {
        Ok(State::Running | State::Initializing | State::Paused) => {
            anyhow!("{name}: the connection to the guest's agent broke, and what it did for us was ended")
        }
        Ok(state) => anyhow!("{name}: its VM is {state} now, and what was done in it has ended with that"),
        Err(error) => error,
    }
}

/// The state of an instance, when it is not on its way to another one.
fn settled(instance: &Instance) -> Result<State> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let seen = instance.observe()?;
        let is_leaving =
            seen.state == State::Shutdown || (seen.state == State::Paused && seen.reason.is_some());
        if !is_leaving || Instant::now() > deadline {
            return Ok(seen.state);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
