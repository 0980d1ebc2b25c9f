//! Sockets in a VM's directory.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::hypervisor::{Error, Result};

/// Removes the socket that an earlier run left at `path`, if there is one: a bind fails on a path that exists.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// A socket that listens, for the VMM to inherit.
pub(crate) fn listen(path: &Path) -> Result<OwnedFd> {
    remove(path)?;
    UnixListener::bind(path).map(OwnedFd::from).map_err(|source| Error::Io { path: path.to_owned(), source })
}
