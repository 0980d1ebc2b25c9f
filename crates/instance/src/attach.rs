//! Streams to a guest: to its keyboard, and to its agent.

use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::client::{Client, client};
use crate::error::Result;
use crate::instance::Instance;
use crate::{adopt, stop};

/// Connects to the guest's keyboard: what is written to the stream is typed, as quickly as the guest takes it. The stream ends with
/// the VM, or with its shim; then another shim, of the program `hypeman`, can be asked.
///
/// # Errors
/// When it does not run, or its shim does not answer, or is of an older release.
pub fn attach(instance: &Instance, hypeman: &Path) -> Result<UnixStream> {
    connect(instance, hypeman, Client::attach)
}

/// Connects to the guest's agent, for one exchange ([`hypeman_agent::protocol`]). A guest that boots is waited for. The stream ends with the
/// exchange, the VM, or its shim.
///
/// # Errors
/// As [`attach`]; and when the guest has no agent, or that does not answer.
pub fn agent(instance: &Instance, hypeman: &Path) -> Result<UnixStream> {
    connect(instance, hypeman, Client::agent)
}

fn connect(
    instance: &Instance,
    hypeman: &Path,
    what: fn(Client) -> Result<UnixStream>,
) -> Result<UnixStream> {
    loop {
        adopt::adopt(instance, hypeman)?;
        stop::require_active(instance)?;
        match client(instance).and_then(what) {
            Err(error) if error.has_hung_up() => {} // it has ended, or was killed: look again
            connected => return connected,
        }
    }
}
