//! Stopping, by the shim where there is one, and by the VMM's process where there is none.

use std::time::Duration;

use hypeman_files::{AtPath, Lock};
use hypeman_record::end::End;
use hypeman_record::names;
use hypeman_record::process::Process;
use hypeman_record::protocol::Request;
use rustix::process::Signal;

use crate::client::Client;
use crate::error::{Error, Needs, Result};
use crate::observe::{self, Keeper, Observation};
use crate::store::Instance;

/// Time a VMM without a shim is given to end after SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(2);
/// Time a killed process may take to be gone: it may be writing to a slow disk.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Presses the power button, and ends the VM by force when it has not ended within `timeout`. Returns when it has ended.
/// An instance that does not run is left as it is.
///
/// # Errors
/// When the shim breaks off.
pub fn stop(instance: &Instance, timeout: Duration) -> Result<()> {
    let _lock = instance.lock()?;
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    end(instance, &Request::Stop { timeout_ms }, Signal::TERM)
}

/// Ends the VM at once.
///
/// # Errors
/// When it does not run, or the shim breaks off.
pub fn kill(instance: &Instance) -> Result<()> {
    let _lock = instance.lock()?;
    if observe::keeper(&instance.directory)? == Keeper::Nobody {
        require_active(instance, &instance.observe()?)?;
    }
    end(instance, &Request::Kill, Signal::KILL)
}

/// As [`kill`], for one whom the shim waits for: whoever has asked it for the end of an instance that removes itself.
///
/// # Errors
/// As [`kill`].
pub fn kill_and_go_on(instance: &Instance) -> Result<()> {
    require_active(instance, &instance.observe()?)?;
    client(instance)?.ask_for_end(&Request::Kill).map(drop)
}

/// Ends the VM of an instance that is about to be removed. The caller holds its lock.
pub(crate) fn discard(instance: &Instance, _held: &Lock) -> Result<()> {
    end(instance, &Request::Discard, Signal::KILL)
}

/// Ends the VM by a request to its shim, or by a signal to a VMM that has lost its shim.
fn end(instance: &Instance, request: &Request, signal: Signal) -> Result<()> {
    match observe::keeper(&instance.directory)? {
        Keeper::Shim => end_by_shim(instance, request),
        Keeper::Vmm(vmm) => end_process(instance, vmm, signal),
        Keeper::Nobody => Ok(()),
    }
}

/// Sends the program in the guest a signal.
///
/// # Errors
/// When it does not run, or has no init of ours to pass the signal on.
pub fn signal(instance: &Instance, signal: i32) -> Result<()> {
    require_active(instance, &instance.observe()?)?;
    client(instance)?.ask(&Request::Signal { signal }).map(|_| ())
}

/// Presses the power button and leaves the rest to the guest.
///
/// # Errors
/// When it does not run.
pub fn power_button(instance: &Instance) -> Result<()> {
    require_active(instance, &instance.observe()?)?;
    client(instance)?.ask(&Request::PowerButton).map(|_| ())
}

/// Waits for the end of the VM and tells it; at once when it has ended already.
///
/// # Errors
/// When the instance was never started, or its shim is killed meanwhile and nothing can be told.
pub fn wait(instance: &Instance) -> Result<End> {
    let seen = instance.observe()?;
    if seen.supervised
        && let Ok(end) = client(instance).and_then(|mut shim| shim.ask_for_end(&Request::Wait))
    {
        return Ok(end);
    }
    // The shim has ended between the two questions, or was killed: the VMM's process is what is left to wait for.
    if let Some(run) = instance.observe()?.run {
        while run.vmm.is_alive() && !run.vmm.wait_gone(Duration::from_secs(3600)) {}
    }
    let seen = instance.observe()?;
    let (name, state) = (instance.record.name.clone(), seen.state);
    seen.end.ok_or(Error::State { name, state, needs: Needs::Running })
}

fn client(instance: &Instance) -> Result<Client> {
    Client::connect(&instance.record.name, &instance.directory)
}

fn require_active(instance: &Instance, seen: &Observation) -> Result<()> {
    if seen.state.is_active() || seen.supervised {
        return Ok(());
    }
    Err(Error::State { name: instance.record.name.clone(), state: seen.state, needs: Needs::Running })
}

/// Has the shim end its VM, and waits until the shim is gone too.
fn end_by_shim(instance: &Instance, request: &Request) -> Result<()> {
    let asked = client(instance).and_then(|mut shim| shim.ask_for_end(request).map(|_| ()));
    if asked.is_ok() {
        return wait_for_shim(instance);
    }
    match observe::keeper(&instance.directory)? {
        Keeper::Shim => asked,
        // It ended by itself while we asked, or its shim did and left the VMM to us.
        Keeper::Vmm(vmm) => end_process(instance, vmm, Signal::KILL),
        Keeper::Nobody => Ok(()),
    }
}

/// Waits until there is no shim, which has been told to end or is about to.
pub(crate) fn wait_for_shim(instance: &Instance) -> Result<()> {
    match Lock::acquire(&instance.directory.join(names::SHIM_PID)) {
        Err(error) if error.is_not_found() => Ok(()), // it has removed the instance
        other => Ok(other.map(drop)?),
    }
}

/// Ends a VMM that has lost its shim.
fn end_process(instance: &Instance, vmm: Process, signal: Signal) -> Result<()> {
    vmm.signal(signal).at(&instance.directory)?;
    if vmm.wait_gone(TERM_TIMEOUT) {
        return Ok(());
    }
    vmm.signal(Signal::KILL).at(&instance.directory)?;
    if vmm.wait_gone(KILL_TIMEOUT) {
        return Ok(());
    }
    Err(Error::Shim {
        name: instance.record.name.clone(),
        reason: format!(
            "its VMM (pid {}) did not end after SIGKILL; look for a stuck disk or device",
            vmm.pid
        ),
    })
}
