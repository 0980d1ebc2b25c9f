//! The machine of an instance, its disks and memory: kept still while something is done with it,
//! and copied.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use hypeman_files::{AtPath, copy_sparse, sync_directory};
use hypeman_record::names;
use hypeman_record::state::State;
use hypeman_snapshot::{compression, standby};

use crate::adopt::adopt;
use crate::error::{Needs, Result};
use crate::instance::Instance;
use crate::nap::{self, Nap};
use crate::pause::pause;
use crate::processes::{Holder, look};
use crate::spawn::Programs;
use crate::standby as sleep;
use crate::store::Store;

/// Does something with an instance, as its record is then, that does not run and does not begin to
/// meanwhile. One that runs is put to standby for it, and goes on
/// afterwards, whatever became of it; one that someone had paused is paused again then.
pub(crate) fn while_asleep<T>(
    store: &Store,
    source: &Instance,
    programs: &Programs,
    work: impl FnOnce(&Instance) -> Result<T>,
) -> Result<T> {
    adopt(source, &programs.hypeman)?;
    let state = source.observe()?.state;
    if !state.is_active() {
        return locked(source, work);
    }
    let nap = Nap::begin(source, state)?;
    sleep::standby(source, &programs.hypeman)?;
    let done = locked(source, work);
    wake(nap, store, source, programs)?;
    done
}

/// Lets a VM go on as it was before its nap.
fn wake(nap: Nap, store: &Store, instance: &Instance, programs: &Programs) -> Result<()> {
    let was_paused = nap.was_paused()?;
    sleep::restore(store, instance, programs)?;
    if was_paused {
        pause(instance)?;
    }
    drop(nap);
    Ok(())
}

/// Wakes a VM that naps, if the process that was to do so is gone. One that is still on its way into
/// its nap is left to the next that looks.
pub(crate) fn wake_forgotten(store: &Store, instance: &Instance, programs: &Programs) -> Result<()> {
    let state = instance.observe()?.state;
    if matches!(state, State::Paused | State::Shutdown) {
        return Ok(()); // or it was paused again already
    }
    let Some(nap) = nap::forgotten(&instance.directory)? else { return Ok(()) };
    match state {
        State::Standby => {
            tracing::info!("{} goes on: the process that was to wake it is gone", instance.record.name);
            wake(nap, store, instance, programs)
        }
        State::Initializing | State::Running if nap.was_paused()? => pause(instance),
        _ => Ok(()),
    }
}

/// Does something with an instance, as its record is then, that does not run and does not begin to
/// meanwhile.
pub(crate) fn locked<T>(source: &Instance, work: impl FnOnce(&Instance) -> Result<T>) -> Result<T> {
    let _unchanged = source.lock()?;
    if look(&source.directory)?.0 == Holder::Nobody {
        return work(&source.read_again()?);
    }
    Err(source.refused(source.observe()?.state, Needs::Stopped))
}

/// Copies what belongs to the machine: its disks, a kernel of its own, and its memory if that is
/// wanted.
pub(crate) fn copy_machine(from: &Path, to: &Path, with_memory: bool) -> Result<()> {
    for file in [names::KERNEL, names::INITRD] {
        if from.join(file).exists() {
            copy_sparse(&from.join(file), &to.join(file))?;
        }
    }
    copy_directory(&from.join(names::DISKS), &to.join(names::DISKS))?;
    if with_memory {
        let _still = compression::wait(from)?; // a file that is being compressed is soon another
        copy_directory(&from.join(standby::WHOLE), &to.join(standby::WHOLE))?;
    }
    Ok(())
}

/// Copies the files of a directory, which survive a power cut then.
fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(to).at(to)?;
    for entry in std::fs::read_dir(from).at(from)? {
        let entry = entry.at(from)?;
        copy_sparse(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(sync_directory(to)?)
}
