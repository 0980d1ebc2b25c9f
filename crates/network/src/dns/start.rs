//! Starts a network's DNS server, the process `hypeman names`, which is there as long as a VM of
//! the network is.
//!
//! Each VMM of the network holds a shared lock on one file. The server waits for that lock to be
//! its own, and ends then.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hypeman_files::AtPath;
use hypeman_record::network::Network;
use rustix::fs::FlockOperation;

use crate::error::{Error, Result};
use crate::network::Networks;
use crate::resolver::answers_names;

/// The argument by which `hypeman` becomes a DNS server.
pub const TASK: &str = "names";

/// The line that a DNS server prints when it answers; any other line is its error.
pub const READY: &str = "ready";

/// The lock that the DNS server holds.
#[must_use]
pub(super) fn lock(networks: &Networks, network: &str) -> PathBuf {
    networks.directory(network).join("names.lock")
}

/// The lock that each VMM of the network holds, shared.
#[must_use]
pub(super) fn in_use(networks: &Networks, network: &str) -> PathBuf {
    networks.directory(network).join("in-use")
}

/// Uses a network as long as the descriptor is open.
///
/// # Errors
/// When the network is gone.
pub fn hold(networks: &Networks, network: &Network) -> Result<OwnedFd> {
    let path = in_use(networks, &network.name);
    let file = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
    rustix::fs::flock(&file, FlockOperation::LockShared).map_err(std::io::Error::from).at(&path)?;
    Ok(file.into())
}

/// Waits until nobody uses the network that this file is of, and keeps others from it until the
/// process ends.
///
/// # Errors
/// When the file cannot be opened.
pub(super) fn wait_until_unused(in_use: &Path) -> std::io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(in_use)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    std::mem::forget(file);
    Ok(())
}

/// Starts the DNS server of a network that is used, unless one answers or none is wanted.
///
/// # Errors
/// When it cannot be started, with its own words.
pub fn start(networks: &Networks, network: &Network, hypeman: &Path) -> Result<()> {
    if !answers_names(network) || hypeman_files::is_held(&lock(networks, &network.name))? {
        return Ok(());
    }
    // Not by way of the instance for which it is begun, and which may go before it.
    let data_dir = std::fs::canonicalize(networks.data_dir().path()).at(networks.data_dir().path())?;
    // Of its caller's environment even PATH is nothing for a process that hears guests.
    let mut command = hypeman_process::program(hypeman);
    command.env_clear().arg(TASK).arg(data_dir).arg(&network.name);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().at(hypeman)?;
    let mut line = String::new();
    if let Some(word) = child.stdout.take() {
        let _ = BufReader::new(word).take(4096).read_line(&mut line); // ends with the process at the latest
    }
    hypeman_process::reap(child);
    if line.trim_end() == READY {
        return Ok(());
    }
    Err(Error::Unable(format!("names are not answered on network {:?}: {}", network.name, line.trim_end())))
}
