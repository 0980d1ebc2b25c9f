//! Removal: a directory that is renamed out of sight first, so that nobody meets half an instance.

use hypeman_files::{Existing, Lock};
use hypeman_record::protocol::Request;
use hypeman_record::run::Run;
use hypeman_record::{format, names};
use rustix::process::Signal;

use crate::error::{Error, Needs, Result};
use crate::instance::Instance;
use crate::network;
use crate::processes::{Holder, KILL_TIMEOUT, end_process, end_vmm, look, shim, wait_for_shim};

/// Removes an instance with its disks and logs.
///
/// # Errors
/// When its VM runs and `force` is not given, or its files cannot be removed.
pub(crate) fn remove(instance: &Instance, force: bool) -> Result<()> {
    loop {
        if look(&instance.directory)?.0 != Holder::Nobody {
            if !force {
                return Err(instance.refused(instance.observe()?.state, Needs::StoppedOrForce));
            }
            discard(instance)?;
        } else {
            wait_for_shim(instance, KILL_TIMEOUT)?; // it has only to go
        }
        // From here on nobody starts it; someone may have, since we looked.
        let Some(alone) = alone(instance)? else { continue };
        let lock = match instance.lock() {
            // One that removes itself at its end was quicker, or another who removes it.
            Err(Error::NotFound(_)) if force => return Ok(()),
            lock => lock?,
        };
        // One that never had a shim may have got its first while we waited for the lock.
        if alone.is_none() && instance.directory.join(names::SHIM_PID).exists() {
            continue;
        }
        // Of one whose shim was killed nobody else has done so.
        if let Ok(Some(Run { cgroup: Some(cgroup), .. })) = format::read(&instance.directory.join(names::RUN))
        {
            hypeman_confine::cgroup::remove(&cgroup);
        }
        network::release(&instance.directory);
        return match hypeman_files::remove_directory(&instance.directory, &lock) {
            Err(error) if force && error.is_not_found() => Ok(()),
            removed => Ok(removed?),
        };
    }
}

/// Removes an instance that did not come to be what was asked for. The error that matters is the
/// one before.
pub(crate) fn clear_away(instance: &Instance) {
    if let Err(error) = remove(instance, true) {
        tracing::warn!("instance {} is left: {}", instance.record.name, hypeman_files::with_causes(&error));
    }
}

/// Takes the shim's lock; `None` when a shim holds it. An instance that never had a shim has no
/// file to lock.
fn alone(instance: &Instance) -> Result<Option<Option<Lock>>> {
    Ok(match Lock::try_acquire_existing(&instance.directory.join(names::SHIM_PID))? {
        Existing::Taken(lock) => Some(Some(lock)),
        Existing::Missing => Some(None),
        Existing::Held => None,
    })
}

/// Ends the VM and the shim of an instance that is to be removed, by whatever means it takes.
pub(crate) fn discard(instance: &Instance) -> Result<()> {
    if look(&instance.directory)?.0 == Holder::Shim {
        let discarded = instance.ask_for_end(&Request::Discard);
        if discarded.is_ok() && wait_for_shim(instance, KILL_TIMEOUT)? {
            return Ok(());
        }
        // It does not answer, or does not end: the VMM first, or the shim would leave it behind.
        end_vmm(instance)?;
        if let Some(shim) = shim(instance) {
            end_process(instance, shim, Signal::KILL)?;
        }
    }
    end_vmm(instance)
}
