//! Ways to a guest: to its keyboard, and to its agent.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hypeman_record::state::State;
use hypeman_session::client::Client;
use hypeman_session::keys::Keyboard;
use hypeman_session::{Error as Failure, Guest};

use crate::error::Result;
use crate::instance::Instance;
use crate::observe::Observation;
use crate::{adopt, stop};

/// Timeout for a VM that may be on its way to another state.
const SETTLING: Duration = Duration::from_secs(3);

/// Connects to the keyboard of an instance that runs. When its shim is replaced it is connected to
/// the next, one of the program `hypeman` if need be.
///
/// # Errors
/// When it does not run, or its shim does not answer, or is of an older release.
pub(crate) fn keyboard(instance: &Instance, hypeman: &Path) -> Result<Keyboard> {
    let stream = connect(instance, hypeman, Client::attach)?;
    let (instance, hypeman) = (instance.clone(), hypeman.to_owned());
    let again = move || match connect(&instance, &hypeman, Client::attach) {
        Ok(stream) => Ok(Some(stream)),
        Err(_) if !is_up(&instance) => Ok(None),
        Err(error) => Err(Failure::dial(error)),
    };
    Ok(Keyboard::new(stream, Arc::new(again)))
}

/// The guest of an instance, whose agent is connected to for each exchange. A guest that boots is
/// waited for.
#[must_use]
pub(crate) fn guest(instance: &Instance, hypeman: &Path) -> Guest {
    let (instance, hypeman) = (instance.clone(), hypeman.to_owned());
    let name = instance.record.name.clone();
    let dial = move || connect(&instance, &hypeman, Client::agent).map_err(Failure::dial);
    Guest::new(&name, Arc::new(dial))
}

fn connect(
    instance: &Instance,
    hypeman: &Path,
    what: fn(Client) -> hypeman_session::Result<UnixStream>,
) -> Result<UnixStream> {
    loop {
        adopt::adopt(instance, hypeman)?;
        stop::require_active(instance)?;
        match instance.client().and_then(|shim| Ok(what(shim)?)) {
            Err(error) if error.has_hung_up() => {} // it has ended, or was killed: look again
            connected => return connected,
        }
    }
}

/// Whether its VM exists. After its end the rest of its output may take long to be written.
fn is_up(instance: &Instance) -> bool {
    instance.observe().is_ok_and(|seen| seen.state.is_active() && seen.state != State::Shutdown)
}

/// Describes how a VM ended whose connection broke, in a sentence; `None` when it still runs.
#[must_use]
pub fn how_it_ended(instance: &Instance) -> Option<String> {
    let seen = settled(instance)?;
    match (seen.state, seen.end) {
        (State::Running | State::Initializing | State::Paused, _) => None,
        (State::Stopped, Some(end)) => Some(format!("the VM ended: {}", end.message)),
        (State::Standby, _) => Some("the VM is in standby".to_owned()),
        (State::Created, _) => Some("it was removed".to_owned()), // of what it was, only the record is left
        (state, _) => Some(format!("the VM is {state}")),
    }
    .or_else(|| (!instance.directory.exists()).then(|| "it was removed".to_owned()))
}

/// Returns the state of an instance whose agent's connection broke; `None` if it is unknown. A VM
/// that ends counts as running for a moment longer than its agent.
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
