//! Cloud Hypervisor, driven over its HTTP API, with the console on a unix socket.
//!
//! The API socket and the event monitor are descriptors that the VMM inherits: a connect never
//! fails and never has to be tried again, and neither leaves a lock or a stale file. Sources cited
//! as `vmm/src/...` are Cloud Hypervisor's, v53.0.

mod accepted;
mod api;
mod carrier;
mod config;
pub mod description;
mod events;
mod in_flight;
mod json;
mod pin;
mod release;
mod serial;
pub mod snapshot;
mod vm;
mod vsock;

use std::os::fd::OwnedFd;
use std::path::Path;

use async_trait::async_trait;
use command_fds::FdMapping;
use hypeman_record::descriptors;
use hypeman_record::guest::config::AgentChannel;
use hypeman_record::program::Program;
use hypeman_record::spec::{Accelerator, Backend, VmSpec};

use crate::error::Result;
use crate::findings::Findings;
use crate::hypervisor::{Abilities, Hypervisor, Origin, Vmm};
use crate::process::Start;
use crate::vm::Vm;
use crate::{given, home, program, socket};

/// The API's socket.
const API_SOCKET: &str = "ch.sock";
/// The serial line's socket, which Cloud Hypervisor makes.
pub const SERIAL_SOCKET: &str = "serial.sock";
/// The host's side of vsock, which Cloud Hypervisor makes.
pub const VSOCK_SOCKET: &str = "vsock.sock";

/// The files of a snapshot (`vmm/src/migration/mod.rs`, `vmm/src/memory_manager.rs`).
const SNAPSHOT: [&str; 3] = ["config.json", "state.json", "memory-ranges"];

/// So many bytes have to be free before glibc gives any back, which it does when a thread frees
/// memory, and then it opens /proc/sys/vm/overcommit_memory. Before cloud-hypervisor#8646 (after
/// v53.0) not each thread's seccomp filter allows that, and the VMM is gone: real v51.1 ended so in
/// one of fifty standbys.
const NEVER_TRIM: &str = "1099511627776";

/// Size in bytes of the blocks that virtio-mem adds to Linux
/// (Documentation/admin-guide/mm/memory-hotplug).
const HOTPLUG_BLOCK: u64 = 128 << 20;

/// The driver.
#[derive(Debug)]
pub(crate) struct CloudHypervisor;

#[async_trait(?Send)]
impl Hypervisor for CloudHypervisor {
    fn abilities(&self) -> Abilities {
        Abilities {
            accelerators: &[Accelerator::Kvm],
            memory_hotplug: Some(HOTPLUG_BLOCK),
            backends: &[Backend::Tap],
            agent: AgentChannel::Vsock,
            filters_io_uring: true,
        }
    }

    fn discover(&self, path: Option<&Path>, findings: &Findings) -> Result<Program> {
        let program = program::discover("cloud-hypervisor", path, "HYPEMAN_CLOUD_HYPERVISOR", findings)?;
        release::check(&program)?;
        Ok(program)
    }

    fn command(
        &self,
        program: &Program,
        directory: &Path,
        spec: &VmSpec,
        origin: Origin<'_>,
    ) -> Result<Start> {
        self.check(spec)?;
        if spec.nic.is_some() {
            release::check_for_network(program)?;
        }
        let home = home::make(directory, spec, origin, &SNAPSHOT)?;
        for socket in [SERIAL_SOCKET, VSOCK_SOCKET] {
            socket::remove(&home.join(socket))?;
        }
        let mut command = hypeman_process::program(&program.path);
        command.current_dir(&home);
        command.env("MALLOC_TRIM_THRESHOLD_", NEVER_TRIM);
        command.args(["--api-socket", &format!("fd={}", descriptors::API)]);
        command.args(["--event-monitor", &format!("fd={}", descriptors::SECOND)]);
        let descriptors = vec![
            FdMapping { parent_fd: socket::listen(&directory.join(API_SOCKET))?, child_fd: descriptors::API },
            FdMapping {
                parent_fd: OwnedFd::from(events::make_fifo(directory)?),
                child_fd: descriptors::SECOND,
            },
        ];
        Ok(Start::new(command, descriptors, given::open(spec, directory, origin == Origin::Boot)?))
    }

    async fn create(&self, vmm: Vmm<'_>, spec: &VmSpec, origin: Origin<'_>) -> Result<Box<dyn Vm>> {
        Ok(Box::new(match origin {
            Origin::Boot => {
                let spec = given::named(spec);
                let config = config::VmConfig::new(&spec);
                let vm = vm::CloudHypervisorVm::create(vmm, &config).await?;
                if let (Some(nic), Some(tap)) = (&spec.nic, vmm.network) {
                    vm.add_nic(nic, tap).await?;
                }
                vm
            }
            Origin::Restore(snapshot) => {
                let tap = vmm.network.filter(|_| spec.nic.is_some());
                vm::CloudHypervisorVm::restore(vmm, snapshot, tap).await?
            }
        }))
    }

    async fn adopt(&self, vmm: Vmm<'_>) -> Result<Box<dyn Vm>> {
        Ok(Box::new(vm::CloudHypervisorVm::adopt(vmm).await?))
    }

    fn clean_up(&self, directory: &Path) {
        let _ = socket::remove(&directory.join(API_SOCKET));
        for socket in [SERIAL_SOCKET, VSOCK_SOCKET] {
            let _ = socket::remove(&home::of(directory).join(socket));
        }
    }
}
