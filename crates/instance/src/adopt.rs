//! Adoption: a VM whose shim was killed gets another, which goes on with its console, its logs and its end.

use std::path::Path;
use std::time::Duration;

use hypeman_files::Lock;
use hypeman_record::names;

use crate::error::{Error, Result};
use crate::observe::{self, Holder};
use crate::start::{Shim, listen};
use crate::stop;
use crate::store::Instance;

/// How long a process that was killed may take to be gone, once it does not run any more.
const DYING: Duration = Duration::from_secs(10);

/// Has a VM that runs without a shim taken over by a new one, of the program `hypeman`. Whether it did so: of several who try
/// at once one does, and the others find a shim when this returns.
///
/// # Errors
/// When it cannot be taken over; it runs on as it is then.
pub fn adopt(instance: &Instance, hypeman: &Path) -> Result<bool> {
    stop::let_go_of_dead_shim(instance, DYING)?;
    if !is_orphaned(instance)? {
        return Ok(false);
    }
    let changed = instance.lock()?;
    if !is_orphaned(instance)? {
        return Ok(false);
    }
    // The socket comes first: whoever sees that the shim's lock is held can connect.
    let listener = listen(&instance.directory)?;
    let Some(alive) = Lock::try_acquire(&instance.directory.join(names::SHIM_PID))? else {
        return Ok(false); // someone starts it, for its VM has just ended
    };
    let shim = Shim::start(instance, hypeman, "shim-adopt", listener, alive)?;
    drop(changed); // the rest is waiting
    match shim.wait_until_ready(instance) {
        Ok(_) => Ok(true),
        // It has ended meanwhile, and so there is nothing to be taken over.
        Err(_) if !is_orphaned(instance)? => Ok(false),
        Err(Error::Start { name, reason }) => {
            Err(Error::Shim { name, reason: format!("cannot be taken over: {reason}") })
        }
        Err(error) => Err(error),
    }
}

/// Whether its VM runs, and nobody but its own process has it.
///
/// # Errors
/// When its directory cannot be read.
pub fn is_orphaned(instance: &Instance) -> Result<bool> {
    let (holder, run) = observe::look(&instance.directory)?;
    Ok(matches!((holder, run), (Holder::Vmm(vmm), Some(run)) if run.vmm == vmm && run.end.is_none()))
}
