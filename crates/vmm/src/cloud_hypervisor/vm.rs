//! A VM in a running Cloud Hypervisor.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use hypeman_files::AtPath;
use hypeman_record::end::ShutdownReason;
use hypeman_record::spec::Nic;
use rustix::process::Pid;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::api::Api;
use super::config::VmConfig;
use super::description::Memory;
use super::events::{Event, Events};
use super::pin::Pinned;
use super::{API_SOCKET, accepted, in_flight, release, serial, vsock};
use crate::error::{Error, Result};
use crate::home;
use crate::hypervisor::Vmm;
use crate::process::VmmProcess;
use crate::vm::{Console, KeepConsole, Paused, Vm, VmStatus};

/// A VM that was created there.
pub(crate) struct CloudHypervisorVm {
    directory: PathBuf,
    api: Api,
    process: Pid,
    /// The VMM, if it drops what the guest prints before our connection is accepted.
    drops_until_accepted: Option<Pid>,
    /// Whether the guest was restored, and waits to be resumed.
    is_restored: bool,
    publish: Rc<watch::Sender<VmStatus>>,
    _reader: AbortOnDropHandle<()>,
}

/// The answer to `vm.info`, as far as we use it.
#[derive(Deserialize)]
struct VmInfo {
    state: String,
    config: Config,
    /// Memory that the guest has now, in bytes.
    memory_actual_size: Option<u64>,
}

/// The description of a VM, as far as we use it here.
#[derive(Deserialize)]
struct Config {
    memory: Memory,
}

/// Name of the interface in the API.
const NIC: &str = "net0";

/// Interval for asking whether a guest has given memory back.
const LOOK: Duration = Duration::from_millis(10);

impl CloudHypervisorVm {
    /// Creates the VM, and listens to what the VMM tells of it from then on. Needs a tokio
    /// `LocalSet`.
    pub(crate) async fn create(vmm: Vmm<'_>, config: &VmConfig<'_>) -> Result<CloudHypervisorVm> {
        let vm = CloudHypervisorVm::listen(vmm)?;
        vm.api.put_json("vm.create", config).await?;
        Ok(vm)
    }

    /// As [`CloudHypervisorVm::create`], from a snapshot.
    pub(crate) async fn restore(
        vmm: Vmm<'_>,
        snapshot: &Path,
        tap: Option<BorrowedFd<'_>>,
    ) -> Result<CloudHypervisorVm> {
        let home = home::own(vmm.directory);
        let source = match home {
            Some(_) => own_url(&home::restored()),
            None => url(vmm.directory, snapshot)?,
        };
        let mut source = serde_json::json!({"source_url": source});
        if tap.is_some() {
            source["net_fds"] = serde_json::json!([{"id": NIC, "num_fds": 1}]);
        }
        let vm = CloudHypervisorVm::listen(vmm)?;
        vm.api.put_with_descriptor("vm.restore", &source, tap).await?;
        if let Some(home) = home {
            home::remove_snapshot(&home);
        }
        vm.publish.send_modify(|status| status.paused = Some(Paused::Requested));
        Ok(CloudHypervisorVm { is_restored: true, ..vm })
    }

    /// Takes over a VM that runs. Its state is asked for when nothing is in flight any more of
    /// those who had it before.
    pub(crate) async fn adopt(vmm: Vmm<'_>) -> Result<CloudHypervisorVm> {
        let vm = CloudHypervisorVm::listen(vmm)?;
        vm.api.get_json::<serde::de::IgnoredAny>("vmm.ping").await?;
        in_flight::wait_until_done(vmm.process).await;
        let state = vm.api.get_json::<VmInfo>("vm.info").await?.state;
        vm.publish.send_modify(|status| {
            status.booted |= state != "Created";
            status.paused = (state == "Paused").then_some(Paused::Requested);
        });
        Ok(vm)
    }

    /// Gives a VM that does not run yet an interface. `vm.create` takes no descriptors (`VmCreate`
    /// in vmm/src/api/http/http_endpoint.rs).
    pub(crate) async fn add_nic(&self, nic: &Nic, tap: BorrowedFd<'_>) -> Result<()> {
        let body = serde_json::json!({"id": NIC, "mac": nic.mac});
        self.api.put_with_descriptor("vm.add-net", &body, Some(tap)).await
    }

    /// Asks for another state. A VM that is in it already refuses that, and is as it should be.
    async fn switch(&self, request: &str, state: &str) -> Result<()> {
        let Err(refused) = self.api.put(request).await else { return Ok(()) };
        match self.api.get_json::<VmInfo>("vm.info").await {
            Ok(info) if info.state == state => Ok(()),
            _ => Err(refused),
        }
    }

    fn listen(vmm: Vmm<'_>) -> Result<CloudHypervisorVm> {
        let events = Events::open(vmm.directory)?;
        let publish = Rc::new(watch::Sender::new(VmStatus::default()));
        let reader = tokio::task::spawn_local(watch(events, vmm.process.clone(), publish.clone()));
        Ok(CloudHypervisorVm {
            directory: vmm.directory.to_owned(),
            api: Api { socket: vmm.directory.join(API_SOCKET) },
            process: vmm.process.pid(),
            drops_until_accepted: Some(vmm.process.pid()).filter(|_| !release::keeps_unread(vmm.program)),
            is_restored: false,
            publish,
            _reader: AbortOnDropHandle::new(reader),
        })
    }
}

/// Follows the VM to its end. A guest that powers off ends the VMM, but one that resets is booted
/// again in place (`vm_reboot` in `vmm/src/lib.rs`), with a new serial socket whose first bytes
/// nobody could be there for: so, as with the other hypervisors, a reset ends the VM. The VMM tells
/// of it before it begins, and the new guest runs only after it was loaded.
async fn watch(mut events: Events, process: Rc<VmmProcess>, publish: Rc<watch::Sender<VmStatus>>) {
    let mut panicked = false;
    while let Some(event) = events.next().await {
        publish.send_modify(|status| apply(&event, &mut panicked, status));
        if (event.source.as_str(), event.event.as_str()) == ("vm", "rebooting") {
            let _ = process.kill(); // fails when it has ended: all the better
        }
    }
    publish.send_modify(|status| status.is_last = true);
}

/// Updates the status by an event.
fn apply(event: &Event, panicked: &mut bool, status: &mut VmStatus) {
    match (event.source.as_str(), event.event.as_str()) {
        ("guest", "panic") => *panicked = true,
        ("vm", "rebooting") => {
            let reason = if *panicked { ShutdownReason::GuestPanic } else { ShutdownReason::GuestReset };
            status.shutdown = Some(reason);
        }
        ("vm", "booted") => status.booted = true,
        ("vm", "paused") => status.paused = Some(Paused::Requested),
        ("vm", "resumed") => {
            status.booted = true;
            status.paused = None;
        }
        // The VMM has the same word for a shutdown that the guest began and one that we asked for.
        ("vm", "shutdown") => {
            status.shutdown.get_or_insert(ShutdownReason::GuestShutdown);
        }
        _ => {}
    }
}

/// A directory as the VMM itself calls it, as the API wants it.
fn own_url(directory: &Path) -> String {
    format!("file://{}", directory.display())
}

/// A directory as the API wants it.
fn url(vmm: &Path, directory: &Path) -> Result<String> {
    let path = vmm.join(directory);
    Ok(format!("file://{}", std::path::absolute(&path).at(&path)?.display()))
}

#[async_trait(?Send)]
impl Vm for CloudHypervisorVm {
    fn status(&self) -> watch::Receiver<VmStatus> {
        self.publish.subscribe()
    }

    async fn console(&self) -> Result<Console> {
        serial::connect(&self.directory).await
    }

    async fn boot(&self) -> Result<()> {
        if self.is_restored {
            self.resume().await?;
            // As it tells itself in a moment.
            self.publish.send_modify(|status| {
                status.booted = true;
                status.paused = None;
            });
            return Ok(());
        }
        let _pinned = self.drops_until_accepted.and_then(Pinned::new);
        match self.api.put("vm.boot").await {
            // A guest may be quicker than the VMM's answer, and end the VMM before that is sent.
            Err(Error::BrokenOff { request, message }) => {
                let mut status = self.publish.subscribe();
                let booted = status.wait_for(|status| status.is_last).await.is_ok_and(|status| status.booted);
                if booted { Ok(()) } else { Err(Error::BrokenOff { request, message }) }
            }
            answered => answered,
        }
    }

    async fn power_button(&self) -> Result<()> {
        self.api.put("vm.power-button").await
    }

    async fn quit(&self) -> Result<()> {
        self.publish.send_modify(|status| {
            status.shutdown.get_or_insert(ShutdownReason::HostRequest);
        });
        self.api.put("vmm.shutdown").await
    }

    async fn pause(&self) -> Result<()> {
        self.switch("vm.pause", "Paused").await
    }

    async fn resume(&self) -> Result<()> {
        if let Some(process) = self.drops_until_accepted {
            accepted::wait_until_served(process).await;
        }
        self.switch("vm.resume", "Running").await
    }

    async fn take_added_memory(&self) -> Result<()> {
        let mut asked = false;
        loop {
            let info = self.api.get_json::<VmInfo>("vm.info").await?;
            let usual = info.config.memory.size;
            if info.memory_actual_size.is_none_or(|actual| actual <= usual) {
                return Ok(());
            }
            if !std::mem::replace(&mut asked, true) {
                self.api.put_json("vm.resize", &serde_json::json!({"desired_ram": usual})).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn snapshot(&self, directory: &Path) -> Result<()> {
        let home = home::own(&self.directory);
        let destination = match &home {
            Some(home) => own_url(&home::begin_snapshot(home)?),
            None => url(&self.directory, directory)?,
        };
        self.api.put_json("vm.snapshot", &serde_json::json!({"destination_url": destination})).await?;
        match home {
            Some(home) => home::take_snapshot(&home, &self.directory.join(directory)),
            None => Ok(()),
        }
    }

    fn holds_console_back(&self) -> bool {
        self.drops_until_accepted.is_none() // the same release has brought both (`vmm/src/serial_manager.rs`)
    }

    async fn console_is_served(&self) {
        if self.holds_console_back() {
            accepted::wait_until_served(self.process).await;
        }
    }

    async fn rest_of_console(&self, keep: &mut KeepConsole<'_>) -> Result<Option<Console>> {
        if !self.holds_console_back() {
            return Ok(None);
        }
        // It sends what it has kept back when the guest prints more, or to a new client
        // (`attach_client` in `vmm/src/serial_manager.rs`), as much as the socket takes.
        let console = serial::connect_kept(&self.directory, keep).await?;
        accepted::wait_until_served(self.process).await;
        Ok(Some(console))
    }

    async fn abandon_snapshot(&self) -> Result<()> {
        Ok(()) // it answers the next request when it has written the snapshot, or failed
    }

    async fn is_halted(&self) -> Result<bool> {
        Ok(false) // nothing in its API tells
    }

    async fn channel(&self, vsock_port: u32) -> Result<Option<UnixStream>> {
        vsock::connect(&self.directory, vsock_port).await
    }
}
