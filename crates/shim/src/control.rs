//! What is done to a running VM.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hypeman_guest::control;
use hypeman_guest::status::Status;
use hypeman_record::launch::Guest;
use hypeman_record::names;
use hypeman_record::protocol::Refusal;
use hypeman_record::status;
use hypeman_vmm::hypervisor;
use rustix::process::Signal;

use crate::shared::Shared;

/// Time a VMM is given to answer, and to quit before it is killed.
pub(crate) const VMM_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a guest that boots is looked at, whether it can hear the power button by now.
const LOOK: Duration = Duration::from_millis(50);

/// How often an init system of the guest's own is pressed, of which we do not know when it begins to listen.
const PRESS_AGAIN: Duration = Duration::from_secs(2);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the VMM does not answer")]
    Silent,
    #[error(transparent)]
    Vmm(#[from] hypervisor::Error),
    #[error("no init of ours runs in this guest that could pass a signal on")]
    NoInit,
    #[error("the guest takes no signals: its port is full")]
    PortFull,
    #[error("the guest takes no signals: {0}")]
    Port(#[from] std::io::Error),
}

type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What whoever asked is told of it.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Error::Silent => Refusal::VmmSilent,
            Error::Vmm(_) => Refusal::VmmRefused,
            Error::NoInit => Refusal::NoInit,
            Error::PortFull | Error::Port(_) => Refusal::GuestBusy,
        }
    }
}

/// Whether the guest has come to run what it is there for.
pub(crate) fn is_up(shared: &Shared) -> bool {
    match (shared.launch.guest, status::read(Path::new(names::STATUS))) {
        (Guest::Bare, _) | (_, Some(Status::Running | Status::Exited { .. } | Status::Signaled { .. })) => {
            true
        }
        (_, Some(Status::Failed { .. }) | None) => false,
    }
}

/// Presses the power button.
pub(crate) async fn power_button(shared: &Shared) -> Result<()> {
    shared.journal.note("pressing the power button");
    let pressed = tokio::time::timeout(VMM_TIMEOUT, async { shared.vm.lock().await.power_button().await });
    match pressed.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Silent),
    }
}

/// Asks the guest to end, and ends it by force when it has not ended in time.
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
        shared.vm.lock().await.quit().await?;
        shared.vmm_gone.cancelled().await;
        Ok::<(), hypervisor::Error>(())
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
pub(crate) fn send_signal(shared: &Shared, signal: i32) -> Result<()> {
    if shared.launch.guest != Guest::Exec {
        return Err(Error::NoInit);
    }
    let mut line = serde_json::to_vec(&control::Request::Signal { signal }).map_err(std::io::Error::from)?;
    line.push(b'\n');
    let mut control = shared.control.borrow_mut();
    if control.is_none() {
        *control = shared.vm.try_lock().map_err(|_| Error::Silent)?.channel()?;
    }
    let Some(stream) = control.as_mut() else {
        return Err(Error::NoInit);
    };
    match stream.write(&line) {
        Ok(written) if written == line.len() => Ok(()),
        // A guest that takes nothing has filled the buffer; half a line would garble the next.
        Ok(_) => Err(Error::PortFull),
        Err(error) => {
            *control = None;
            Err(error.into())
        }
    }
}
