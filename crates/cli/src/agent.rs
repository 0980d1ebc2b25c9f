//! Exchanges with the agent of an instance that runs.

use anyhow::anyhow;
use hypeman_host::how_it_ended;
use hypeman_host::instance::Instance;
use hypeman_session::Error;

/// A connection that breaks is the end of the VM, or of something between it and us.
pub(crate) fn explained(error: Error, instance: &Instance) -> anyhow::Error {
    if !error.is_broken() {
        return hypeman_host::Error::from(error).into();
    }
    let name = &instance.record.name;
    match how_it_ended(instance) {
        Some(how) => anyhow!("{name}: {how}, and the request ended with it"),
        None => broke(instance),
    }
}

/// A connection broke although the VM runs on.
pub(crate) fn broke(instance: &Instance) -> anyhow::Error {
    anyhow!("{}: the connection to the guest's agent broke", instance.record.name)
}
