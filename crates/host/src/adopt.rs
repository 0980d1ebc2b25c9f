//! Adoption: a VM whose shim was killed gets another, which goes on with its console, its logs and
//! its end.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hypeman_files::Lock;
use hypeman_record::kind::Kind;
use hypeman_record::names;
use hypeman_record::protocol::Request;
use hypeman_snapshot::standby;

use crate::error::{Error, Needs, Result};
use crate::instance::Instance;
use crate::processes::{Holder, KILL_TIMEOUT, end_vmm, let_go_of_dead_shim, look, shim};
use crate::spawn::{Shim, listen};

/// Timeout for a killed process to be gone, once it does not run any more.
const DYING: Duration = Duration::from_secs(10);

/// Has a VM that runs without a shim taken over by a new one, of the program `hypeman`. Whether it
/// did so: of several who try at once one does, and the others find a shim when this returns.
///
/// # Errors
/// When it cannot be taken over; it runs on as it is then.
pub(crate) fn adopt(instance: &Instance, hypeman: &Path) -> Result<bool> {
    let_go_of_dead_shim(instance, DYING)?;
    let Holder::Vmm(_) = look(&instance.directory)?.0 else { return Ok(false) };
    let changed = instance.lock()?;
    end_unused(instance)?;
    if !is_orphaned(instance)? {
        return Ok(false);
    }
    take_over(instance, hypeman, "shim-adopt", changed)
}

/// Has the shim of a VM hand it over to a new one, of the program `hypeman`. A process that asks
/// the VM for something meanwhile asks the new one.
///
/// # Errors
/// When it does not run, its shim is of a release that cannot do so, or it is being ended; it has
/// the shim then that it had.
pub(crate) fn upgrade(instance: &Instance, hypeman: &Path) -> Result<()> {
    adopt(instance, hypeman)?;
    let changed = instance.lock()?; // others who would take it over wait here
    let running = look(&instance.directory)?.0 == Holder::Shim;
    if !running {
        return Err(instance.refused(instance.observe()?.state, Needs::Running));
    }
    hand_over(instance)?;
    take_over(instance, hypeman, "shim-upgrade", changed).map(drop)
}

/// Whether the shim of a VM that runs is of another program than `hypeman`, or of one that was
/// replaced since.
#[must_use]
pub(crate) fn is_of_another_program(instance: &Instance, hypeman: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    let shim = shim(instance).map(|shim| PathBuf::from(format!("/proc/{}/exe", shim.pid)));
    // One that is going has no program any more.
    shim.and_then(|shim| identity(&shim)).is_some_and(|program| Some(program) != identity(hypeman))
}

/// Ends the VMM of an instance whose snapshot is complete: it has not run since it wrote or read
/// that.
fn end_unused(instance: &Instance) -> Result<()> {
    if !standby::is_whole(&instance.directory) {
        return Ok(());
    }
    // While we have this, nobody lets it go on.
    let Some(_alone) = Lock::try_acquire(&instance.directory.join(names::SHIM_PID))? else { return Ok(()) };
    if standby::is_whole(&instance.directory) { end_vmm(instance) } else { Ok(()) }
}

/// Starts a shim for a VM that has none. `changed` is the instance's lock.
fn take_over(instance: &Instance, hypeman: &Path, task: &str, changed: Lock) -> Result<bool> {
    if !is_orphaned(instance)? {
        return Ok(false);
    }
    // The socket comes first: a process that sees the shim's lock held can connect.
    let listener = listen(&instance.directory)?;
    let Some(alive) = Lock::try_acquire(&instance.directory.join(names::SHIM_PID))? else {
        return Ok(false); // someone starts it, for its VM has just ended
    };
    let shim = Shim::start(instance, hypeman, task, listener, alive)?;
    drop(changed); // the rest is waiting
    match shim.wait_until_ready(instance) {
        Ok(_) => Ok(true),
        // It has ended meanwhile, and so there is nothing to be taken over.
        Err(_) if !is_orphaned(instance)? => Ok(false),
        Err(Error::Start { name, kind, reason }) => {
            Err(Error::Shim { name, kind, reason: format!("could not be adopted: {reason}") })
        }
        Err(error) => Err(error),
    }
}

/// Whether its VM runs, and nobody but its own process has it.
///
/// # Errors
/// When its directory cannot be read.
pub(crate) fn is_orphaned(instance: &Instance) -> Result<bool> {
    let (holder, run) = look(&instance.directory)?;
    Ok(matches!((holder, run), (Holder::Vmm(vmm), Some(run)) if run.vmm == vmm && run.end.is_none()))
}

/// Has the shim leave its VM, and waits until it is gone.
pub(crate) fn hand_over(instance: &Instance) -> Result<()> {
    let leaving = shim(instance);
    match instance.ask(&Request::HandOver) {
        Err(error) if !error.has_hung_up() => return Err(error),
        Ok(_) | Err(_) => {}
    }
    if leaving.is_none_or(|shim| shim.wait_gone(KILL_TIMEOUT)) {
        return let_go_of_dead_shim(instance, KILL_TIMEOUT);
    }
    let reason = "its shim did not hand over".to_owned();
    Err(Error::Shim { name: instance.record.name.clone(), kind: Kind::Silent, reason })
}
