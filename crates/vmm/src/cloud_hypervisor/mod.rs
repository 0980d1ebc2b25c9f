//! Cloud Hypervisor, driven over its HTTP API, with the console on a unix socket.
//!
//! The API socket and the event monitor are descriptors that the VMM inherits: a connect never fails and never has to be
//! tried again, and neither leaves a lock or a stale file. Sources cited as `vmm/src/...` are Cloud Hypervisor's, v53.0.

mod accepted;
mod api;
mod config;
mod events;
mod json;
mod landlock;
mod pin;
mod release;
mod serial;
pub mod snapshot;
mod vm;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use async_trait::async_trait;
use command_fds::{CommandFdExt, FdMapping};

use crate::hypervisor::{Error, Hypervisor, Program, Result, Unsupported, Vm, Vmm};
use crate::program;
use crate::socket;
use crate::spec::{Accelerator, VmSpec};

/// The API's socket.
const API_SOCKET: &str = "ch.sock";
/// Where Cloud Hypervisor finds it among its descriptors (`--api-socket fd=`, since v20.0).
const API_FD: i32 = 3;
/// Where Cloud Hypervisor finds the event monitor's FIFO.
const EVENTS_FD: i32 = 4;
/// The serial line's socket, which Cloud Hypervisor makes.
const SERIAL_SOCKET: &str = "serial.sock";

/// The driver.
#[derive(Debug)]
pub(crate) struct CloudHypervisor;

/// Makes a VM anew from the snapshot in a directory, in the VMM that was just started from [`Hypervisor::command`]. The guest
/// is paused where it was: connect its console, and then let it go on ([`Vm::resume`]). What the snapshot says of the serial
/// line is to be fit for this VMM ([`snapshot::prepare_restore`]).
///
/// # Errors
/// When the snapshot is damaged or of another release, or the VMM ends meanwhile.
pub async fn restore(vmm: Vmm<'_>, snapshot: &Path) -> Result<Box<dyn Vm>> {
    Ok(Box::new(vm::CloudHypervisorVm::restore(vmm, snapshot).await?))
}

#[async_trait(?Send)]
impl Hypervisor for CloudHypervisor {
    fn discover(&self, path: Option<&Path>) -> Result<Program> {
        let program = program::discover("cloud-hypervisor", path, "HYPEMAN_CLOUD_HYPERVISOR")?;
        release::check(&program)?;
        Ok(program)
    }

    fn command(&self, program: &Program, directory: &Path, spec: &VmSpec) -> Result<Command> {
        if spec.accelerator != Accelerator::Kvm {
            return Err(Error::Unsupported(Unsupported::Tcg));
        }
        socket::remove(&directory.join(SERIAL_SOCKET))?;
        let mut command = Command::new(&program.path);
        command.current_dir(directory);
        command.args(["--api-socket", &format!("fd={API_FD}")]);
        command.args(["--event-monitor", &format!("fd={EVENTS_FD}")]);
        let descriptors = vec![
            FdMapping { parent_fd: socket::listen(&directory.join(API_SOCKET))?, child_fd: API_FD },
            FdMapping { parent_fd: OwnedFd::from(events::make_fifo(directory)?), child_fd: EVENTS_FD },
        ];
        command.fd_mappings(descriptors).map_err(|error| program::unusable(program, error))?;
        Ok(command)
    }

    async fn create(&self, vmm: Vmm<'_>, spec: &VmSpec) -> Result<Box<dyn Vm>> {
        let config = config::VmConfig::new(spec, landlock::is_there(vmm.program));
        Ok(Box::new(vm::CloudHypervisorVm::create(vmm, &config).await?))
    }

    fn clean_up(&self, directory: &Path) {
        for socket in [API_SOCKET, SERIAL_SOCKET] {
            let _ = socket::remove(&directory.join(socket));
        }
    }
}
