//! Exchanges with the agent of an instance that runs.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hypeman_agent::frames;
use hypeman_agent::protocol::Request;
use hypeman_instance::attach;
use hypeman_instance::instance::Instance;
use hypeman_instance::observe::Observation;
use hypeman_record::state::State;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::context::hypeman;

/// Timeout for a VM that may be on its way to another state.
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
    if !is_broken(&error) {
        return error;
    }
    let name = &instance.record.name;
    match ended_with(&error, instance) {
        Some(how) => anyhow!("{name}: {how}, and what was done in it with that"),
        None => {
            anyhow!("{name}: the connection to the guest's agent broke, and what it did for us was ended")
        }
    }
}

/// How the VM has ended, if that is what has broken an exchange.
pub(crate) fn ended_with(error: &anyhow::Error, instance: &Instance) -> Option<String> {
    if !is_broken(error) {
        return None;
    }
    let seen = settled(instance)?;
    match (seen.state, seen.end) {
        (State::Running | State::Initializing | State::Paused, _) => None,
        (State::Stopped, Some(end)) => Some(format!("its VM has ended: {}", end.message)),
        (State::Standby, _) => Some("its VM is in Standby now".to_owned()),
        (State::Created, _) => Some("it was removed".to_owned()), // of what it was, only the record is left
        (state, _) => Some(format!("its VM is {state} now")),
    }
    .or_else(|| (!instance.directory.exists()).then(|| "it was removed".to_owned()))
}

fn is_broken(error: &anyhow::Error) -> bool {
    let is_broken =
        |error: &std::io::Error| [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind());
    error.downcast_ref().is_some_and(is_broken)
}

/// State of an instance whose agent's connection broke; `None` when it cannot be told. A VM that
/// ends is told to run for a moment longer than its agent does.
fn settled(instance: &Instance) -> Option<Observation> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let seen = instance.observe().ok()?;
        let has_left = matches!(seen.state, State::Stopped | State::Standby);
        if has_left || Instant::now() > deadline {
            return Some(seen);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
