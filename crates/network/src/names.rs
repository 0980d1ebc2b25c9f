//! Whether somebody answers a network's questions for names: the process `hypeman names`, which is there as long as a VM of the network is.
//!
//! Each VMM of the network holds a shared lock on one file. Whoever answers waits for that lock to be its own, and ends then.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hypeman_files::AtPath;
use rustix::fs::FlockOperation;

use crate::error::{Error, Result};
use crate::network::{Network, Networks};

/// The word by which `hypeman` calls itself for this.
pub const TASK: &str = "names";

/// What it says when it answers. Anything else is why it does not.
pub const READY: &str = "ready";

/// Held by whoever answers.
#[must_use]
pub fn lock(networks: &Networks, network: &str) -> PathBuf {
    networks.directory(network).join("names.lock")
}

/// Held, shared, by each VMM of the network.
#[must_use]
pub fn in_use(networks: &Networks, network: &str) -> PathBuf {
    networks.directory(network).join("in-use")
}

/// Uses a network, for as long as somebody has this open.
///
/// # Errors
/// When the network is gone.
pub fn hold(networks: &Networks, network: &Network) -> Result<OwnedFd> {
    let path = in_use(networks, &network.name);
    let file = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
    rustix::fs::flock(&file, FlockOperation::LockShared).map_err(std::io::Error::from).at(&path)?;
    Ok(file.into())
}

/// Waits until nobody uses the network that this file is of, and keeps others from it until the process ends.
///
/// # Errors
/// When the file cannot be opened.
pub fn wait_until_unused(in_use: &Path) -> std::io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(in_use)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    std::mem::forget(file);
    Ok(())
}

/// Has somebody answer the guests of a network that is used, if that is wanted and nobody does.
///
/// # Errors
/// When nobody can.
pub fn start(networks: &Networks, network: &Network, hypeman: &Path) -> Result<()> {
    if !network.answers_names() || hypeman_files::is_held(&lock(networks, &network.name))? {
        return Ok(());
    }
    // Not by way of the instance for which it is begun, and which may go before it.
    let data_dir = std::fs::canonicalize(networks.data_dir()).at(networks.data_dir())?;
    let mut command = Command::new(hypeman);
    command.arg(TASK).arg(data_dir).arg(&network.name);
    command.env_clear(); // of what its caller has, nothing is for a process that hears guests
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().at(hypeman)?;
    let mut line = String::new();
    if let Some(word) = child.stdout.take() {
        let _ = BufReader::new(word).take(4096).read_line(&mut line); // ends with the process at the latest
    }
    if line.trim_end() == READY {
        return Ok(());
    }
    let _ = child.wait();
    Err(Error::Unable(format!("names are not answered on network {:?}: {}", network.name, line.trim_end())))
}
