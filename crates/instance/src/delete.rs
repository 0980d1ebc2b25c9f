//! Removal: a directory that is renamed out of sight first, so that nobody meets half an instance.

use hypeman_files::{AtPath, Existing, Lock};
use hypeman_record::names;

use crate::error::{Error, Needs, Result};
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
            let state = instance.observe()?.state;
            return Err(Error::State {
                name: instance.record.name.clone(),
                state,
                needs: Needs::StoppedOrForce,
            });
        }
        stop::discard(instance, &lock)?;
    }
    match hypeman_files::remove_directory(&instance.directory, &lock) {
        // One that removes itself at its end was quicker.
        Err(error) if force && error.is_not_found() => Ok(()),
        other => Ok(other?),
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
            Lock::try_acquire_existing(&entry.path().join(names::LOCK))
        {
            let _ = std::fs::remove_dir_all(entry.path()); // tried again by the next creator
        }
    }
    Ok(())
}
