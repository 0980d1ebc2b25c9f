//! A VM in a running Cloud Hypervisor.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use async_trait::async_trait;
use hypeman_files::AtPath;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::api::Api;
use super::config::VmConfig;
use super::events::Events;
use super::pin::Pinned;
use super::{API_SOCKET, accepted, release, serial};
use crate::hypervisor::{Console, Error, Result, ShutdownReason, Vm, Vmm};

/// A VM that was created there.
pub(crate) struct CloudHypervisorVm {
    directory: PathBuf,
    api: Api,
    /// The VMM, if it drops what the guest prints before our connection is accepted.
    drops_until_accepted: Option<Pid>,
    asked_to_quit: bool,
    reported: Rc<Reported>,
    events: Option<JoinHandle<()>>,
}

/// The answer to `vm.info`, as far as we use it.
#[derive(Deserialize)]
struct VmInfo {
    state: String,
}

/// What the events of the VMM have told of the VM.
#[derive(Default)]
struct Reported {
    booted: Cell<bool>,
    reason: Cell<Option<ShutdownReason>>,
}

impl CloudHypervisorVm {
    /// Creates the VM, and listens to what the VMM tells of it from then on. Needs a tokio `LocalSet`.
    pub(crate) async fn create(vmm: Vmm<'_>, config: &VmConfig<'_>) -> Result<CloudHypervisorVm> {
        CloudHypervisorVm::make(vmm, "vm.create", config).await
    }

    /// As [`CloudHypervisorVm::create`], from a snapshot.
    pub(crate) async fn restore(vmm: Vmm<'_>, snapshot: &Path) -> Result<CloudHypervisorVm> {
        let url = format!("file://{}", snapshot.display());
        CloudHypervisorVm::make(vmm, "vm.restore", &serde_json::json!({"source_url": url})).await
    }

    async fn make(vmm: Vmm<'_>, request: &str, body: &impl Serialize) -> Result<CloudHypervisorVm> {
        let api = Api { socket: vmm.directory.join(API_SOCKET) };
        let pid = Pid::from_raw(vmm.pid);
        let process = pid
            .ok_or(Errno::INVAL)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .at(Path::new(&format!("/proc/{}", vmm.pid)))?;
        let events = Events::open(vmm.directory)?;
        api.put_json(request, body).await?;
        let reported = Rc::new(Reported::default());
        let events = tokio::task::spawn_local(watch(events, process, reported.clone()));
        Ok(CloudHypervisorVm {
            directory: vmm.directory.to_owned(),
            api,
            drops_until_accepted: pid.filter(|_| !release::keeps_unread(vmm.program)),
            asked_to_quit: false,
            reported,
            events: Some(events),
        })
    }

    /// Waits until all events of a VMM that has ended were read.
    async fn read_last_events(&mut self) {
        if let Some(events) = self.events.take() {
            let _ = events.await; // the FIFO has ended with the VMM
        }
    }
}

/// Follows the VM to its end. A guest that powers off ends the VMM, but one that resets is booted again in place
/// (`vm_reboot` in `vmm/src/lib.rs`), with a new serial socket whose first bytes nobody could be there for: so, as with
/// the other hypervisors, a reset ends the VM. The VMM tells of it before it begins, and the new guest runs only after it
/// was loaded.
async fn watch(mut events: Events, process: OwnedFd, reported: Rc<Reported>) {
    let mut panicked = false;
    while let Some(event) = events.next().await {
        match (event.source.as_str(), event.event.as_str()) {
            ("guest", "panic") => panicked = true,
            ("vm", "rebooting") => {
                let reason = if panicked { ShutdownReason::GuestPanic } else { ShutdownReason::GuestReset };
                reported.reason.set(Some(reason));
                let _ = pidfd_send_signal(&process, Signal::KILL); // fails when it has ended: all the better
            }
            ("vm", "booted") => reported.booted.set(true),
            ("vm", "shutdown") if reported.reason.get().is_none() => {
                reported.reason.set(Some(ShutdownReason::GuestShutdown));
            }
            _ => {}
        }
    }
}

#[async_trait(?Send)]
impl Vm for CloudHypervisorVm {
    async fn console(&mut self) -> Result<Console> {
        serial::connect(&self.directory).await
    }

    async fn boot(&mut self) -> Result<()> {
        let _pinned = self.drops_until_accepted.and_then(Pinned::new);
        match self.api.put("vm.boot").await {
            // A guest may be quicker than the VMM's answer, and end the VMM before that is sent.
            Err(Error::BrokenOff { request, message }) => {
                self.read_last_events().await;
                if self.reported.booted.get() { Ok(()) } else { Err(Error::BrokenOff { request, message }) }
            }
            answered => answered,
        }
    }

    async fn power_button(&mut self) -> Result<()> {
        self.api.put("vm.power-button").await
    }

    async fn quit(&mut self) -> Result<()> {
        self.asked_to_quit = true;
        self.api.put("vmm.shutdown").await
    }

    async fn pause(&mut self) -> Result<()> {
        self.api.put("vm.pause").await
    }

    async fn resume(&mut self) -> Result<()> {
        if let Some(process) = self.drops_until_accepted {
            accepted::wait_until_served(process).await;
        }
        self.api.put("vm.resume").await
    }

    async fn is_paused(&mut self) -> Result<bool> {
        Ok(self.api.get_json::<VmInfo>("vm.info").await?.state == "Paused")
    }

    async fn is_halted(&mut self) -> Result<bool> {
        Ok(false) // nothing in its API tells
    }

    async fn shutdown_reason(&mut self) -> Option<ShutdownReason> {
        self.read_last_events().await;
        // The VMM has the same word for a shutdown that the guest began and one that we asked for.
        if self.asked_to_quit { Some(ShutdownReason::HostRequest) } else { self.reported.reason.get() }
    }
}
