//! Observed state of an instance: from the shim, the VMM and the disk, never from a record.

use std::path::Path;
use std::time::Duration;

use hypeman_record::end::{self, End, Reason};
use hypeman_record::guest::health::Health;
use hypeman_record::protocol::{Counts, Request, Response};
use hypeman_record::run::{Ended, Run};
use hypeman_record::state::State;
use hypeman_record::{format, names, process, status};
use hypeman_snapshot::standby;

use crate::error::Result;
use crate::instance::Instance;
use crate::parallel::{in_parallel, processors};
use crate::processes::{Holder, let_go_of_dead_shim, look, shim};

/// Maximum number of shims that are asked at once.
const MAX_ASKED: usize = 128;

/// Timeout for a shim that has hung up to be gone.
const LEAVING: Duration = Duration::from_millis(100);

/// Timeout for the rest of a killed shim to be gone.
const DYING: Duration = Duration::from_secs(1);

/// Number of requests to the successor of a shim that hung up.
const ASKS_AGAIN: u32 = 2;

/// Observed state of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The state.
    pub state: State,
    /// Explanation of the state: why it is paused, or why it is unknown.
    pub reason: Option<String>,
    /// Result of its program's health checks, if there are any.
    pub health: Option<Health>,
    /// Events of its console's log, if its shim counts them.
    pub console: Option<Counts>,
    /// Whether a VMM runs without a shim.
    pub orphaned: bool,
    /// Whether a shim supervises it.
    pub supervised: bool,
    /// The release of that shim, if it tells.
    pub shim_release: Option<String>,
    /// The last run as its shim recorded it.
    pub run: Option<Run>,
    /// End of the last run, also when no shim was left to record it.
    pub end: Option<End>,
}

/// Observes an instance.
///
/// # Errors
/// When its directory cannot be read. A shim that does not answer is no error but
/// [`State::Unknown`].
pub fn observe(instance: &Instance) -> Result<Observation> {
    let (holder, run) = look(&instance.directory)?;
    complete(instance, holder, run, ASKS_AGAIN)
}

impl Instance {
    /// Returns its state now.
    ///
    /// # Errors
    /// As [`observe()`].
    pub fn observe(&self) -> Result<Observation> {
        observe(self)
    }
}

/// Observes several instances at once: a silent one does not delay the others.
pub fn observe_all(instances: &[Instance]) -> Vec<Result<Observation>> {
    let looked = in_parallel(instances, processors(), |instance| look(&instance.directory));
    // Those that have a shim are asked; there is nobody to wait for in the others.
    let has_shim = |looked: &Result<(Holder, Option<Run>)>| matches!(looked, Ok((Holder::Shim, _)));
    let shims: Vec<_> = instances.iter().zip(&looked).filter(|(_, looked)| has_shim(looked)).collect();
    let asked = in_parallel(&shims, shims.len().min(MAX_ASKED), |(instance, _)| observe(instance));
    let mut asked = asked.into_iter();
    let observed = |(instance, looked): (&Instance, Result<(Holder, Option<Run>)>)| {
        if has_shim(&looked)
            && let Some(observation) = asked.next()
        {
            return observation;
        }
        looked.map(|(holder, run)| unsupervised(&instance.directory, holder, run))
    };
    instances.iter().zip(looked).map(observed).collect()
}

/// As [`look`], past a shim that has just been killed.
fn look_past_dead_shim(instance: &Instance, has_hung_up: bool) -> Result<(Holder, Option<Run>)> {
    if has_hung_up && let Some(shim) = shim(instance) {
        let _ = shim.wait_gone(LEAVING); // unless this is the next one already
    }
    let_go_of_dead_shim(instance, DYING)?;
    look(&instance.directory)
}

/// Asks the shim, if there is one, and concludes.
fn complete(instance: &Instance, holder: Holder, run: Option<Run>, asks_left: u32) -> Result<Observation> {
    let directory = &instance.directory;
    match holder {
        Holder::Shim => match ask_shim(instance) {
            Ok(told) => {
                // The shim may have recorded a run since we looked.
                let run =
                    run.map_or_else(|| format::read(&directory.join(names::RUN)), |run| Ok(Some(run)))?;
                Ok(Observation { run, ..told })
            }
            // It may have ended since we looked, or was killed. Then nobody could answer, and its
            // record tells.
            Err(error) => match look_past_dead_shim(instance, error.has_hung_up())? {
                // It was replaced since we looked.
                (Holder::Shim, run) if error.has_hung_up() && asks_left > 0 => {
                    complete(instance, Holder::Shim, run, asks_left - 1)
                }
                (Holder::Shim, run) => {
                    Ok(Observation { run, ..supervised(State::Unknown, Some(error.to_string())) })
                }
                (holder, run) => Ok(unsupervised(directory, holder, run)),
            },
        },
        holder => Ok(unsupervised(directory, holder, run)),
    }
}

/// Asks the shim.
fn ask_shim(instance: &Instance) -> Result<Observation> {
    let mut client = instance.client()?;
    match client.ask(&Request::State)? {
        Response::State { state, reason, health, console } => {
            let shim_release = client.peer()?.release;
            Ok(Observation { health, console, shim_release, ..supervised(state, reason) })
        }
        other => Err(client.wrong_answer(&other).into()),
    }
}

/// With a shim, of which nothing more is known.
pub(crate) fn supervised(state: State, reason: Option<String>) -> Observation {
    Observation {
        state,
        reason,
        health: None,
        console: None,
        orphaned: false,
        supervised: true,
        shim_release: None,
        run: None,
        end: None,
    }
}

/// Concludes without a shim: from its record of the end, or else from the host and the disks.
fn unsupervised(directory: &Path, holder: Holder, run: Option<Run>) -> Observation {
    let orphaned = matches!(holder, Holder::Vmm(_));
    let (state, reason, end) = match (holder, &run) {
        (Holder::Vmm(_), _) if standby::is_whole(directory) => {
            let reason = "its shim was killed before the VMM ran".to_owned();
            (State::Standby, Some(reason), None)
        }
        (Holder::Vmm(vmm), Some(run)) if run.vmm == vmm => (State::Running, None, None),
        (Holder::Vmm(vmm), _) => {
            let reason = format!("its shim was killed while starting the VMM, pid {}", vmm.pid);
            (State::Shutdown, Some(reason), None)
        }
        _ if standby::is_whole(directory) => (State::Standby, None, None),
        (_, None) => (State::Created, None, None),
        (_, Some(run)) => (State::Stopped, None, Some(ended(run, directory))),
    };
    Observation { orphaned, supervised: false, run, end, ..supervised(state, reason) }
}

/// Concludes how a run ended that left no record.
fn ended(run: &Run, directory: &Path) -> End {
    if let Some(Ended { end, .. }) = &run.end {
        return end.clone();
    }
    if run.boot_id != process::boot_id() {
        let message = "the host was rebooted while the VM ran".to_owned();
        return end::end(Reason::HostRebooted, 137, message);
    }
    status::read(&directory.join(names::STATUS)).as_ref().and_then(end::reported).unwrap_or_else(|| {
        let message =
            "the shim was killed and the VMM ended; app.log has the output that was kept".to_owned();
        end::end(Reason::Vanished, 137, message)
    })
}

#[cfg(test)]
mod tests {
    use hypeman_files::{Lock, write_json};
    use hypeman_record::format::Envelope;
    use hypeman_record::process::Process;
    use hypeman_record::spec::Accelerator;

    use super::*;

    fn run(vmm: Process, boot_id: String) -> Run {
        Run {
            boot_id,
            shim: vmm,
            vmm,
            hypervisor: "qemu 1".to_owned(),
            accelerator: Accelerator::Tcg,
            started: jiff::Timestamp::UNIX_EPOCH,
            reboots: 0,
            held: None,
            confinement: Vec::new(),
            cgroup: None,
            published: Vec::new(),
            adoptions: Vec::new(),
            end: None,
            envelope: Envelope::of::<Run>(),
        }
    }

    fn me() -> Process {
        Process::find(std::process::id()).unwrap()
    }

    fn observed(run: &Run) -> Observation {
        let dir = tempfile::tempdir().unwrap();
        write_json(&dir.path().join(names::RUN), run).unwrap();
        let (holder, run) = look(dir.path()).unwrap();
        unsupervised(dir.path(), holder, run)
    }

    #[test]
    fn a_record_that_says_running_is_not_believed() {
        let gone = Process { pid: std::process::id(), start_ticks: 1 };
        let seen = observed(&run(gone, process::boot_id()));
        assert_eq!((seen.state, seen.end.unwrap().reason), (State::Stopped, Reason::Vanished));
    }

    #[test]
    fn a_reboot_of_the_host_is_told() {
        let seen = observed(&run(me(), "another boot".to_owned()));
        assert_eq!((seen.state, seen.end.unwrap().reason), (State::Stopped, Reason::HostRebooted));
    }

    #[test]
    fn a_vmm_of_a_release_of_before_vmms_had_a_lock_still_runs() {
        let seen = observed(&run(me(), process::boot_id()));
        assert_eq!((seen.state, seen.supervised), (State::Running, false));
    }

    #[test]
    fn a_vmm_whose_shim_was_killed_before_it_could_record_it_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(names::VMM_PID);
        drop(Lock::acquire(&dir.path().join(names::SHIM_PID)).unwrap());
        let _held = Lock::acquire(&path).unwrap();
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        let (holder, run) = look(dir.path()).unwrap();
        assert_eq!(holder, Holder::Vmm(me()));
        let seen = unsupervised(dir.path(), holder, run);
        assert_eq!((seen.state, seen.end), (State::Shutdown, None));
    }
}
