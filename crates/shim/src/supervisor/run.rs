//! The record of a run, as another shim finds it and goes on with it.

use std::path::Path;

use hypeman_record::format::{self, RELEASE};
use hypeman_record::names;
use hypeman_record::process::Process;
use hypeman_record::run::{Adoption, Run};
use jiff::Timestamp;

use crate::error::{Result, StartContext};

/// The run of a VM that is to be taken over.
pub(super) fn run_without_end() -> Result<Run> {
    let run = format::read::<Run>(Path::new(names::RUN)).start("read the run")?;
    run.filter(|run| run.end.is_none()).ok_or("there is none to be taken over").start("read the run")
}

/// The run as it is with this shim.
pub(super) fn taken_over(mut run: Run, why: &str) -> Result<Run> {
    let me = Process::find(std::process::id()).ok_or("it has no entry in /proc").start("find this shim")?;
    run.adoptions.push(Adoption {
        at: Timestamp::now(),
        reason: format!("its shim, pid {}, {why}", run.shim.pid),
        from: run.shim,
        release: RELEASE.to_owned(),
    });
    run.shim = me;
    Ok(run)
}
