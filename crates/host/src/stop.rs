//! Ending: by the shim where there is one that answers, and by the VMM's process where there is
//! none.
//!
//! Nobody holds the instance's lock here, because everybody waits here: a kill is not to wait for a
//! stop.

use std::path::Path;
use std::time::Duration;

use hypeman_files::Lock;
use hypeman_record::end::{Reason, end};
use hypeman_record::guest::config::Mode;
use hypeman_record::kind::Kind;
use hypeman_record::protocol::Request;
use hypeman_record::run::{Ended, Run};
use hypeman_record::state::State;
use hypeman_record::{format, names};
use hypeman_session::Error::Silent;
use hypeman_session::client::Outcome;
use hypeman_snapshot::standby;
use jiff::Timestamp;
use rustix::process::Signal;

use crate::error::{Error, Needs, Result};
use crate::instance::Instance;
use crate::processes::{Holder, KILL_TIMEOUT, end_process, end_vmm, look, shim, wait_for_shim};
use crate::{adopt, delete};

/// Presses the power button, and ends the VM by force when it has not ended within `timeout`.
/// Returns when it has ended, and how, if there was a shim to tell. An instance that does not run
/// is left as it is. A VM that loses its shim meanwhile is taken over by another, of the program
/// `hypeman`, and asked again.
///
/// # Errors
/// When the shim does not answer, or breaks off.
pub(crate) fn stop(instance: &Instance, timeout: Duration, hypeman: &Path) -> Result<Option<Outcome>> {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    loop {
        let adopted = adopt::adopt(instance, hypeman);
        match look(&instance.directory)?.0 {
            Holder::Shim => match end_by_shim(instance, &Request::Stop { timeout_ms }) {
                Err(error) if error.has_hung_up() => {} // look again
                ended => return ended,
            },
            Holder::Vmm(_) if adopted.is_ok() && adopt::is_orphaned(instance)? => {}
            Holder::Vmm(vmm) => return end_process(instance, vmm, Signal::TERM).map(|()| None),
            // Its guest cannot be asked to end, and its memory is not thrown away by the way.
            Holder::Nobody if standby::is_whole(&instance.directory) => {
                return Err(instance.refused(State::Standby, Needs::NoSnapshot));
            }
            Holder::Nobody => return Ok(None),
        }
    }
}

/// Ends the VM at once. A shim that does not answer is not waited for. Of an instance in standby
/// the memory is given up.
///
/// # Errors
/// When it does not run, or cannot be ended.
pub(crate) fn kill(instance: &Instance) -> Result<Option<Outcome>> {
    match look(&instance.directory)?.0 {
        Holder::Shim => match end_by_shim(instance, &Request::Kill) {
            Err(Error::Session(silent @ Silent { hung_up, .. })) => {
                end_vmm(instance)?;
                // The VM has ended. What became of its log nobody can tell whose shim is there and
                // silent.
                if hung_up && look(&instance.directory)?.0 != Holder::Shim {
                    Ok(None)
                } else {
                    Err(silent.into())
                }
            }
            ended => ended,
        },
        Holder::Vmm(vmm) => end_process(instance, vmm, Signal::KILL).map(|()| None),
        Holder::Nobody => {
            if !give_up(instance)? {
                require_active(instance)?;
            } else if instance.record.settings.auto_remove {
                delete::remove(instance, false)?; // as at any other end
            }
            Ok(None)
        }
    }
}

/// As [`kill`], for a caller for which the shim waits: the one that asked it for the end of an
/// instance that removes itself.
///
/// # Errors
/// As [`kill`].
pub(crate) fn kill_and_go_on(instance: &Instance) -> Result<()> {
    require_active(instance)?;
    instance.ask_for_end(&Request::Kill).map(drop)
}

/// Sends the program in the guest a signal.
///
/// # Errors
/// When it does not run, or has no init of ours to pass the signal on.
pub(crate) fn signal(instance: &Instance, signal: i32) -> Result<()> {
    ask_active(instance, &Request::Signal { signal })
}

/// Asks the guest to end, by its agent where it has one, and leaves the rest to it; returns when it
/// has ended.
///
/// # Errors
/// When it does not run, or its shim breaks off.
pub(crate) fn ask_to_end(instance: &Instance) -> Result<()> {
    require_active(instance)?;
    instance.ask_for_end(&Request::Stop { timeout_ms: u64::MAX }).map(drop)
}

/// Passes a signal on: the first is the program's; a system is asked to power off, and a kernel
/// alone has its power button pressed. From the second on it is the VM's end.
pub(crate) fn interrupt(instance: &Instance, signal: i32, times: u32) -> Result<()> {
    let mode = instance.record.command.as_ref().map(|command| command.mode);
    match (times, mode) {
        (1, Some(Mode::Exec)) => self::signal(instance, signal),
        (1, Some(_)) => ask_to_end(instance),
        (1, None) => power_button(instance),
        _ => kill_and_go_on(instance),
    }
}

/// Presses the power button and leaves the rest to the guest.
///
/// # Errors
/// When it does not run.
pub(crate) fn power_button(instance: &Instance) -> Result<()> {
    ask_active(instance, &Request::PowerButton)
}

/// Asks the shim of a VM that runs for something.
///
/// # Errors
/// When it does not run, or has ended meanwhile; or the shim does not answer, or refuses.
pub(crate) fn ask_active(instance: &Instance, request: &Request) -> Result<()> {
    require_active(instance)?;
    match instance.ask(request) {
        // As a shim does that goes with its VM, which may have been started again since.
        Err(error) if error.has_hung_up() && !instance.observe()?.orphaned => {
            let reason = "the VM ended before that was done".to_owned();
            Err(Error::Shim { name: instance.record.name.clone(), kind: Kind::Broken, reason })
        }
        asked => asked.map(drop),
    }
}

pub(crate) fn require_active(instance: &Instance) -> Result<()> {
    if look(&instance.directory)?.0 != Holder::Nobody {
        return Ok(());
    }
    Err(instance.refused(instance.observe()?.state, Needs::Running))
}

/// Lets the shim end its VM, and waits until the shim is gone too, unless it still has something to
/// write.
fn end_by_shim(instance: &Instance, request: &Request) -> Result<Option<Outcome>> {
    let outcome = ask_for_end(instance, request)?;
    if !outcome.unwritten {
        wait_for_shim(instance, KILL_TIMEOUT)?;
    }
    Ok(Some(outcome))
}

/// Asks the shim for the end. One that hangs up instead is on its way out, as when its start is
/// ended, or was killed: it is let go first, so that the next look sees what is left.
fn ask_for_end(instance: &Instance, request: &Request) -> Result<Outcome> {
    let asked_one = shim(instance);
    let asked = instance.ask_for_end(request);
    match asked {
        Err(Error::Session(Silent { name, reason, hung_up: true })) => {
            let is_gone = asked_one.is_none_or(|shim| shim.wait_gone(KILL_TIMEOUT));
            Err(Silent { name, reason, hung_up: is_gone }.into())
        }
        asked => asked,
    }
}

/// Waits until an instance that removes itself has done so, after the last of those who had asked
/// for its end is gone.
///
/// # Errors
/// When its directory is there and cannot be read.
pub(crate) fn wait_for_removal(instance: &Instance) -> Result<()> {
    wait_for_shim(instance, KILL_TIMEOUT).map(drop)
}

/// Gives the memory of an instance in standby up, as a power cut would. Whether there was one.
pub(crate) fn give_up(instance: &Instance) -> Result<bool> {
    let _changed = instance.lock()?;
    let alone = Lock::try_acquire(&instance.directory.join(names::SHIM_PID))?;
    if alone.is_none() || !standby::is_whole(&instance.directory) {
        return Ok(false); // someone lets it go on
    }
    let problem = |problem| Error::Snapshot { name: instance.record.name.clone(), problem };
    standby::withdraw(&instance.directory).map_err(problem)?;
    let path = instance.directory.join(names::RUN);
    if let Some(run) = format::read::<Run>(&path)? {
        let message = "its memory was discarded, as requested".to_owned();
        let end = Ended { at: Timestamp::now(), end: end(Reason::Killed, 137, message) };
        format::rewrite(&path, &Run { end: Some(end), ..run })?;
    }
    Ok(true)
}
