//! QEMU, driven over QMP, with the console on a pair of FIFOs.
//!
//! QEMU opens both FIFOs for reading and writing (chardev/char-pipe.c), so the pipe lives as long as QEMU: a reader that
//! dies and comes back has lost nothing, and when the pipe is full the guest's UART waits.

mod arguments;
mod events;
mod kvm;
mod registers;
mod vm;

use std::path::Path;
use std::process::Command;

use async_trait::async_trait;
use command_fds::{CommandFdExt, FdMapping};

pub use kvm::{CpuFeatures, cpu_features, try_features};

use crate::fifo;
use crate::hypervisor::{Error, Hypervisor, Program, Result, Unsupported, Vm, Vmm};
use crate::program;
use crate::socket::{self, listen};
use crate::spec::VmSpec;

/// QMP's socket.
const QMP_SOCKET: &str = "qmp.sock";
/// The socket of the virtio-serial port that the specification asks for.
const CONTROL_SOCKET: &str = "control.sock";
/// FIFO that QEMU reads: what the guest gets as input.
const CONSOLE_IN: &str = "console.in";
/// FIFO that QEMU writes: what the guest prints.
const CONSOLE_OUT: &str = "console.out";

/// The machine that QEMU emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// PCI and ACPI.
    Q35,
    /// virtio-mmio and hardly anything else (docs/system/i386/microvm.rst).
    Microvm,
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Qemu {
    /// Which machine.
    pub(crate) machine: Machine,
}

#[async_trait(?Send)]
impl Hypervisor for Qemu {
    fn discover(&self, path: Option<&Path>) -> Result<Program> {
        program::discover("qemu-system-x86_64", path, "HYPEMAN_QEMU")
    }

    fn command(&self, program: &Program, directory: &Path, spec: &VmSpec) -> Result<Command> {
        if spec.hotplug_memory.is_some() {
            return Err(Error::Unsupported(Unsupported::MemoryHotplug));
        }
        for name in [CONSOLE_IN, CONSOLE_OUT] {
            fifo::make(&directory.join(name))?;
        }
        // Both sockets listen before QEMU starts, and QEMU inherits them: a connect never fails and never has to be
        // tried again.
        let mut sockets =
            vec![FdMapping { parent_fd: listen(&directory.join(QMP_SOCKET))?, child_fd: arguments::QMP_FD }];
        if spec.control_port.is_some() {
            let parent_fd = listen(&directory.join(CONTROL_SOCKET))?;
            sockets.push(FdMapping { parent_fd, child_fd: arguments::CONTROL_FD });
        }
        let mut command = Command::new(&program.path);
        command.current_dir(directory).args(arguments::of(self.machine, spec));
        command.fd_mappings(sockets).map_err(|error| program::unusable(program, error))?;
        Ok(command)
    }

    async fn create(&self, vmm: Vmm<'_>, _spec: &VmSpec) -> Result<Box<dyn Vm>> {
        Ok(Box::new(vm::QemuVm::connect(vmm.directory).await?))
    }

    fn clean_up(&self, directory: &Path) {
        for socket in [QMP_SOCKET, CONTROL_SOCKET] {
            let _ = socket::remove(&directory.join(socket));
        }
    }
}
