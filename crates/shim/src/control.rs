//! What is done to a running VM.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hypeman_guest::control;
use hypeman_guest::status::Status;
use hypeman_record::launch::Guest;
use hypeman_record::names;
use hypeman_record::status;
use rustix::process::Signal;

use crate::shared::Shared;

/// Time a VMM is given to answer, and to quit before it is killed.
pub(crate) const VMM_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a guest that boots is looked at, whether it can hear the power button by now.
const LOOK: Duration = Duration::from_millis(50);

/// How often an init system of the guest's own is pressed, of which we do not know when it begins to listen.
const PRESS_AGAIN: Duration = Duration::from_secs(2);

/// Whether the guest has come to run what it is there for.
pub(crate) fn is_up(shared: &Shared) -> bool {
    match (shared.launch.guest, status::read(Path::new(names::STATUS))) {
        (Guest::Bare, _) | (_, Some(Status::Running | Status::Exited { .. } | Status::Signaled { .. })) => {
            true
        }
        (_, Some(Status::Failed { .. }) | None) => false,
    }
}

pub(crate) async fn power_button(shared: &Shared) -> Result<(), String> {
    shared.journal.note("pressing the power button");
    let pressed = tokio::time::timeout(VMM_TIMEOUT, async { shared.vm.lock().await.power_button().await });
    match pressed.await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the VMM does not answer".to_owned()),
    }
}

pub(crate) async fn stop(shared: &Shared, timeout: Duration) {
    tokio::select! {
        () = shared.vmm_gone.cancelled() => {}
        () = tokio::time::sleep(timeout) => kill(shared, "the guest has not ended in time").await,
        () = press_until_heard(shared) => {}
    }
}

/// Presses the power button, again when the guest was not up yet, for then nobody heard it. Never comes back.
async fn press_until_heard(shared: &Shared) {
    loop {
        let was_up = is_up(shared);
        if let Err(error) = power_button(shared).await {
            shared.journal.note(format_args!("the power button failed: {error}"));
        }
        match (was_up, shared.launch.guest) {
            (true, Guest::Systemd) => tokio::time::sleep(PRESS_AGAIN).await,
            (true, Guest::Exec | Guest::Bare) => std::future::pending().await,
            (false, _) => {
                while !is_up(shared) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}

/// Ends the VM by force.
pub(crate) async fn kill(shared: &Shared, why: &str) {
    if !shared.vmm_gone.is_cancelled() {
        shared.forced.set(true);
        end_vmm(shared, &format!("{why}: ending it by force")).await;
    }
}

/// Whether the guest will never run again, as far as the VMM tells.
pub(crate) async fn is_halted(shared: &Shared) -> bool {
    let asked = async { shared.vm.lock().await.is_halted().await };
    matches!(tokio::time::timeout(VMM_TIMEOUT, asked).await, Ok(Ok(true)))
}

/// Lets the VMM quit, and kills it when it does not.
pub(crate) async fn end_vmm(shared: &Shared, why: &str) {
    shared.journal.note(why);
    let quit = async {
        shared.vm.lock().await.quit().await.map_err(|error| error.to_string())?;
        shared.vmm_gone.cancelled().await;
        Ok::<(), String>(())
    };
    if !matches!(tokio::time::timeout(VMM_TIMEOUT, quit).await, Ok(Ok(()))) && !shared.vmm_gone.is_cancelled()
    {
        shared.journal.note("the VMM does not quit: killing its process");
        if let Err(error) = shared.run.vmm.signal(Signal::KILL) {
            shared.journal.note(format_args!("cannot kill the VMM: {error}"));
        }
    }
}

/// Hands a signal to init. It goes into the socket's buffer; init takes it when it listens.
pub(crate) fn send_signal(shared: &Shared, signal: i32) -> Result<(), String> {
    if shared.launch.guest != Guest::Exec {
        let way_out = "press its power button with `hypeman stop`, or end it with `hypeman kill`";
        return Err(format!("no init of ours runs in this guest that could pass a signal on; {way_out}"));
    }
    let mut line =
        serde_json::to_vec(&control::Request::Signal { signal }).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let broken = |error: std::io::Error| format!("the guest takes no signals: {error}");
    let mut control = shared.control.borrow_mut();
    if control.is_none() {
        let stream = std::os::unix::net::UnixStream::connect(names::CONTROL_SOCKET).map_err(broken)?;
        stream.set_nonblocking(true).map_err(broken)?;
        *control = Some(stream);
    }
    let Some(stream) = control.as_mut() else {
        return Ok(());
    };
    match stream.write(&line) {
        Ok(written) if written == line.len() => Ok(()),
        // A guest that takes nothing has filled the buffer; half a line would garble the next.
        Ok(_) => Err("the guest takes no signals: its port is full".to_owned()),
        Err(error) => {
            *control = None;
            Err(broken(error))
        }
    }
}
