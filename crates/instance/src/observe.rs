//! What is true of an instance, told from the shim, the VMM and the disk; never from a word in a record.

use std::path::Path;

use hypeman_record::end::{self, End, Reason};
use hypeman_record::names;
use hypeman_record::protocol::{Request, Response};
use hypeman_record::run::{Ended, Run};
use hypeman_record::state::State;
use hypeman_record::{format, process, status};

use crate::client::Client;
use crate::error::Result;

/// What is true of an instance now.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The state.
    pub state: State,
    /// Whether a shim supervises it.
    pub supervised: bool,
    /// The release of that shim, if it tells.
    pub shim_release: Option<String>,
    /// The last run as its shim recorded it.
    pub run: Option<Run>,
    /// How the last run ended, also when no shim was left to record it.
    pub end: Option<End>,
}

/// Observes the instance `name` in `directory`.
///
/// # Errors
/// When the directory cannot be read. A shim that does not answer is no error but [`State::Unknown`].
pub fn observe(name: &str, directory: &Path) -> Result<Observation> {
    if hypeman_files::is_held(&directory.join(names::SHIM_PID))? {
        let answer = ask_shim(name, directory);
        // A shim that has ended its work answers no more; then its record is the truth.
        if answer.is_some() || !is_leaving(directory)? {
            let run = format::read(&directory.join(names::RUN))?;
            let (state, shim_release) = answer.unwrap_or((State::Unknown, None));
            return Ok(Observation { state, supervised: true, shim_release, run, end: None });
        }
    }
    let run: Option<Run> = format::read(&directory.join(names::RUN))?;
    let (state, end) = match &run {
        None => (State::Created, None),
        Some(run) => unsupervised(run, directory),
    };
    Ok(Observation { state, supervised: false, shim_release: None, run, end })
}

/// Who can end an instance's VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// Its shim.
    Shim,
    /// Nobody but the VMM's process itself: the shim was killed.
    Vmm(process::Process),
    /// It does not run.
    Nobody,
}

/// Looks who can end the VM of the instance in `directory`. Nobody is asked, so nobody who is silent is waited for.
pub(crate) fn keeper(directory: &Path) -> Result<Keeper> {
    if !is_leaving(directory)? {
        return Ok(Keeper::Shim);
    }
    let run: Option<Run> = format::read(&directory.join(names::RUN))?;
    let alive = |run: &Run| run.end.is_none() && run.boot_id == process::boot_id() && run.vmm.is_alive();
    Ok(run.filter(alive).map_or(Keeper::Nobody, |run| Keeper::Vmm(run.vmm)))
}

/// Whether there is no shim any more, or one that has recorded the end of its VM and has only to go.
fn is_leaving(directory: &Path) -> Result<bool> {
    let path = directory.join(names::SHIM_PID);
    let pid = std::fs::read_to_string(&path).unwrap_or_default().trim().parse().ok();
    let run: Option<Run> = format::read(&directory.join(names::RUN))?;
    let has_ended = run.is_some_and(|run| run.end.is_some() && Some(run.shim.pid) == pid);
    Ok(has_ended || !hypeman_files::is_held(&path)?)
}

/// The state that the shim tells, and its release.
fn ask_shim(name: &str, directory: &Path) -> Option<(State, Option<String>)> {
    let mut client = Client::connect(name, directory).ok()?;
    match client.ask(&Request::State) {
        Ok(Response::State { state }) => Some((state, client.peer().ok()?.release)),
        _ => None,
    }
}

/// Without a shim: its record of the end, or else what the host and the disks say.
fn unsupervised(run: &Run, directory: &Path) -> (State, Option<End>) {
    if let Some(Ended { end, .. }) = &run.end {
        return (State::Stopped, Some(end.clone()));
    }
    if run.boot_id != process::boot_id() {
        let message = "the host was rebooted while the VM ran".to_owned();
        return (State::Stopped, Some(end::end(Reason::HostRebooted, 137, message)));
    }
    if run.vmm.is_alive() {
        return (State::Running, None);
    }
    let end =
        status::read(&directory.join(names::STATUS)).as_ref().and_then(end::reported).unwrap_or_else(|| {
            let message =
                "the shim was killed, and the VMM has ended since; app.log holds what was kept".to_owned();
            end::end(Reason::Vanished, 137, message)
        });
    (State::Stopped, Some(end))
}

#[cfg(test)]
mod tests {
    use hypeman_files::write_json;
    use hypeman_record::format::Envelope;
    use hypeman_vmm::spec::Accelerator;

    use super::*;
    use hypeman_record::process::Process;

    fn run(vmm: Process, boot_id: String) -> Run {
        let hypervisor = "qemu 1".to_owned();
        let started = jiff::Timestamp::UNIX_EPOCH;
        let envelope = Envelope::of::<Run>();
        Run {
            boot_id,
            shim: vmm,
            vmm,
            hypervisor,
            accelerator: Accelerator::Tcg,
            started,
            end: None,
            envelope,
        }
    }

    fn observed(run: &Run) -> Observation {
        let dir = tempfile::tempdir().unwrap();
        write_json(&dir.path().join(names::RUN), run).unwrap();
        observe("x", dir.path()).unwrap()
    }

    #[test]
    fn a_record_that_says_running_is_not_believed() {
        let gone = Process { pid: std::process::id(), start_ticks: 1 };
        let seen = observed(&run(gone, process::boot_id()));
        assert_eq!((seen.state, seen.end.unwrap().reason), (State::Stopped, Reason::Vanished));
    }

    #[test]
    fn a_reboot_of_the_host_is_told() {
        let me = Process::find(std::process::id()).unwrap();
        let seen = observed(&run(me, "another boot".to_owned()));
        assert_eq!((seen.state, seen.end.unwrap().reason), (State::Stopped, Reason::HostRebooted));
    }

    #[test]
    fn a_vmm_without_its_shim_still_runs() {
        let me = Process::find(std::process::id()).unwrap();
        let seen = observed(&run(me, process::boot_id()));
        assert_eq!((seen.state, seen.supervised), (State::Running, false));
    }
}
