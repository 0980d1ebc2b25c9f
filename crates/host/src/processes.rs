//! The processes of an instance: its shim and its VMM, found by the locks that they hold, and
//! ended.

use std::path::Path;
use std::time::{Duration, Instant};

use hypeman_files::{AtPath, Holding};
use hypeman_record::kind::Kind;
use hypeman_record::process::{self, Process};
use hypeman_record::run::Run;
use hypeman_record::{format, names};
use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::instance::Instance;

/// Timeout for a VMM that was just forked to write its pid, its first action.
const FORKED: Duration = Duration::from_secs(1);

/// Timeout for a VMM without a shim to end after SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(2);

/// Time a killed process may take to be gone: it may be writing to a slow disk.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Process that holds the VM of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Its shim.
    Shim,
    /// Only the VMM's process: the shim was killed.
    Vmm(Process),
    /// It does not run.
    Nobody,
}

/// Returns the process that holds the VM, and the shim's record. It sends no request, so a silent
/// shim delays nothing.
pub(crate) fn look(directory: &Path) -> Result<(Holder, Option<Run>)> {
    let shim_pid = directory.join(names::SHIM_PID);
    let shim = hypeman_files::holding(&shim_pid)?;
    let run: Option<Run> = format::read(&directory.join(names::RUN))?;
    if shim == Holding::Missing && run.is_none() {
        return Ok((Holder::Nobody, None)); // never started: only a shim starts a VMM
    }
    if shim == Holding::Held {
        let pid = pid_in(&shim_pid);
        // One that has recorded the end of its VM has only to go; then its record is the truth.
        let has_ended = run.as_ref().is_some_and(|run| run.end.is_some() && Some(run.shim.pid) == pid);
        if !has_ended {
            return Ok((Holder::Shim, run));
        }
    }
    Ok((vmm(directory, run.as_ref())?.map_or(Holder::Nobody, Holder::Vmm), run))
}

/// The VMM that holds its lock, or, of a release of before VMMs had one, the one in the record.
pub(crate) fn vmm(directory: &Path, run: Option<&Run>) -> Result<Option<Process>> {
    let path = directory.join(names::VMM_PID);
    let deadline = Instant::now() + FORKED;
    while hypeman_files::is_held(&path)? {
        match pid_in(&path).and_then(Process::find) {
            Some(process) => return Ok(Some(process)),
            None if Instant::now() > deadline => break,
            None => std::thread::yield_now(), // it has just been forked, or has just died
        }
    }
    let alive = |run: &&Run| run.end.is_none() && run.boot_id == process::boot_id() && run.vmm.is_alive();
    Ok(run.filter(alive).map(|run| run.vmm))
}

/// The number in a file of a process id, which is its first line.
pub(crate) fn pid_in(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.lines().next()?.parse().ok()
}

/// Waits until there is no shim, which has been told to end or is about to. Whether it is gone.
pub(crate) fn wait_for_shim(instance: &Instance, limit: Duration) -> Result<bool> {
    if let Some(shim) = shim(instance) {
        let _ = shim.wait_gone(limit);
    }
    Ok(!hypeman_files::is_held(&instance.directory.join(names::SHIM_PID))?)
}

/// A shim that was killed holds its lock until the last of its threads is gone, which may be
/// writing to a slow disk.
pub(crate) fn let_go_of_dead_shim(instance: &Instance, limit: Duration) -> Result<()> {
    let path = instance.directory.join(names::SHIM_PID);
    let deadline = Instant::now() + limit;
    while hypeman_files::is_held(&path)? && is_dead(&path) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether the process is gone whose pid is in the file.
fn is_dead(pid: &Path) -> bool {
    pid_in(pid).is_some_and(|pid| Process::find(pid).is_none())
}

/// The shim's process, while there is one.
pub(crate) fn shim(instance: &Instance) -> Option<Process> {
    let path = instance.directory.join(names::SHIM_PID);
    // Looked for before it is asked whether the lock is held: then it is this process that holds
    // it, or none.
    let process = Process::find(pid_in(&path)?)?;
    hypeman_files::is_held(&path).is_ok_and(|held| held).then_some(process)
}

/// Ends the VMM by its process.
pub(crate) fn end_vmm(instance: &Instance) -> Result<()> {
    match vmm(&instance.directory, None)? {
        Some(vmm) => end_process(instance, vmm, Signal::KILL),
        None => Ok(()),
    }
}

/// Ends a process of an instance, and waits until it is gone.
pub(crate) fn end_process(instance: &Instance, process: Process, signal: Signal) -> Result<()> {
    process.signal(signal).at(&instance.directory)?;
    if process.wait_gone(TERM_TIMEOUT) {
        return Ok(());
    }
    process.signal(Signal::KILL).at(&instance.directory)?;
    if process.wait_gone(KILL_TIMEOUT) {
        return Ok(());
    }
    Err(Error::Shim {
        name: instance.record.name.clone(),
        kind: Kind::Silent,
        reason: format!("process {} did not end after SIGKILL; is a disk or device stuck?", process.pid),
    })
}
