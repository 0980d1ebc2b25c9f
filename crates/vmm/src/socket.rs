//! Sockets in a VM's directory.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use hypeman_files::AtPath;

use crate::error::Result;

/// Removes the socket that an earlier run left at `path`, if there is one: a bind fails on a path
/// that exists.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Ok(Err(error).at(path)?),
        _ => Ok(()),
    }
}

/// A socket that listens, for the VMM to inherit.
pub(crate) fn listen(path: &Path) -> Result<OwnedFd> {
    remove(path)?;
    Ok(UnixListener::bind(path).map(OwnedFd::from).at(path)?)
}
