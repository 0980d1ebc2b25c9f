//! Removal: a directory that is renamed out of sight first, so that nobody meets half an instance.

use std::path::Path;

use hypeman_files::{AtPath, Existing, Lock};

use crate::error::{Error, Result};
use crate::observe::{self, Keeper};
use crate::store::{Instance, Store};
use crate::{layout, stop};

/// Removes an instance with its disks and logs.
///
/// # Errors
/// When its VM runs and `force` is not given, or its files cannot be removed.
pub fn remove(instance: &Instance, force: bool) -> Result<()> {
    let lock = instance.lock()?;
    if observe::keeper(&instance.directory)? != Keeper::Nobody {
        if !force {
            return Err(Error::State {
                name: instance.record.name.clone(),
                state: instance.observe()?.state.to_string(),
                way_out: format!(
                    "stop it first (`hypeman stop {0}`), or remove it by force: `hypeman rm -f {0}`",
                    instance.record.name
                ),
            });
        }
        stop::discard(instance, &lock)?;
    }
    match remove_directory(&instance.directory, &lock) {
        // One that removes itself at its end was quicker.
        Err(Error::Files(error)) if force && error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Removes the directory of an instance that does not run, and that nobody starts meanwhile: `_held` is the instance's lock or
/// its shim's, for which a start waits.
///
/// # Errors
/// When it cannot be renamed or removed.
pub fn remove_directory(directory: &Path, _held: &Lock) -> Result<()> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let hidden = directory.with_file_name(format!(".removed-{name}"));
    std::fs::rename(directory, &hidden).at(directory)?;
    match std::fs::remove_dir_all(&hidden) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()), // a creator has swept it away with us
        other => Ok(other.at(&hidden)?),
    }
}

/// Removes what creators and removers that were killed have left. The caller holds the store's lock.
///
/// # Errors
/// When the directory of the instances cannot be read.
pub fn sweep(store: &Store, _held: &Lock) -> Result<()> {
    let instances = layout::instances(store.data_dir());
    for entry in std::fs::read_dir(&instances).at(&instances)? {
        let entry = entry.at(&instances)?;
        let name = entry.file_name();
        let bytes = name.as_encoded_bytes();
        if !bytes.starts_with(b".new-") && !bytes.starts_with(b".removed-") {
            continue;
        }
        // Whoever is making or removing something in there holds its lock. When the lock's file is missing, a remover has come
        // past it already, so the rest may go as well. It is not made again: that would keep the directory from being removed.
        if let Ok(Existing::Taken(_) | Existing::Missing) =
            Lock::try_acquire_existing(&entry.path().join(layout::names::LOCK))
        {
            let _ = std::fs::remove_dir_all(entry.path()); // tried again by the next creator
        }
    }
    Ok(())
}
