//! Which VMs are on networks, by the records that they leave in their instances' directories.

use std::path::Path;

use hypeman_record::network::Attached;
use hypeman_record::{format, names};

use crate::error::{Error, Result};

/// Attachments of instances whose VMs run or are about to, in the directory of all instances; and
/// errors of those that could not be read.
#[must_use]
pub fn attached_in(instances: &Path) -> (Vec<Attached>, Vec<Error>) {
    let directories = match hypeman_files::entries(instances) {
        Ok(directories) => directories,
        Err(error) => return (Vec::new(), vec![error.into()]),
    };
    let (mut all, mut unreadable) = (Vec::new(), Vec::new());
    for directory in directories {
        let path = directory.join(names::ATTACHED);
        let is_there = path.try_exists().unwrap_or(true);
        if is_there && is_alive(&directory) {
            match format::read(&path) {
                Ok(attached) => all.extend(attached),
                Err(error) => unreadable.push(error.into()),
            }
        }
    }
    (all, unreadable)
}

/// Attachments of VMs on one network.
///
/// # Errors
/// When a record cannot be read: it may be of that network.
pub fn attached_on(instances: &Path, network: &str) -> Result<Vec<Attached>> {
    let (all, unreadable) = attached_in(instances);
    match unreadable.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(all.into_iter().filter(|attached| attached.port.network == network).collect()),
    }
}

/// Whether somebody has the VM of the instance in `directory`: its shim, or the VMM itself. One
/// that cannot be asked is taken for alive.
#[must_use]
pub fn is_alive(directory: &Path) -> bool {
    let is_held = |name| hypeman_files::is_held(&directory.join(name)).unwrap_or(true);
    is_held(names::SHIM_PID) || is_held(names::VMM_PID)
}
