//! QEMU, driven over QMP, with the console on a pair of FIFOs.
//!
//! QEMU opens both FIFOs for reading and writing (chardev/char-pipe.c), so the pipe lives as long
//! as QEMU: a reader that dies and comes back has lost nothing, and when the pipe is full the
//! guest's UART waits.

mod arguments;
mod events;
mod file_format;
mod kvm;
mod migration;
mod qmp;
mod registers;
mod vm;

use std::path::Path;

use async_trait::async_trait;
use command_fds::FdMapping;

pub use kvm::try_features;

use crate::error::Result;
use crate::findings::Findings;
use crate::hypervisor::{Abilities, Hypervisor, Origin, Vmm};
use crate::process::Start;
use crate::socket::{self, listen};
use crate::tsc::host_tsc_khz;
use crate::vm::Vm;
use crate::{fifo, given, home, program};
use hypeman_record::descriptors;
use hypeman_record::guest::config::AgentChannel;
use hypeman_record::program::Program;
use hypeman_record::spec::{Accelerator, Backend, CpuFeatures, VmSpec};

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
    fn abilities(&self) -> Abilities {
        Abilities {
            accelerators: &[Accelerator::Kvm, Accelerator::Tcg],
            memory_hotplug: None,
            backends: &[Backend::Tap, Backend::Stream],
            agent: AgentChannel::Port,
            filters_io_uring: false,
        }
    }

    fn discover(&self, path: Option<&Path>, findings: &Findings) -> Result<Program> {
        program::discover("qemu-system-x86_64", path, "HYPEMAN_QEMU", findings)
    }

    fn cpu_features(&self, program: &Program, findings: &Findings) -> Result<CpuFeatures> {
        kvm::cpu_features(program, findings)
    }

    fn kernel_words(&self, accelerator: Accelerator) -> Vec<String> {
        let mut words = Vec::new();
        if self.machine == Machine::Microvm {
            // By a triple fault (docs/system/i386/microvm.rst). Linux takes a machine of reduced
            // ACPI for one of EFI, and without that goes back to the BIOS (`efi_reboot_required`,
            // arch/x86/kernel/reboot.c): qboot, which runs into nowhere from there.
            words.push("reboot=t".to_owned());
        }
        if accelerator == Accelerator::Kvm {
            return words;
        }
        // On a busy host a timer interrupt of TCG's comes too late for Linux's check of the
        // IO-APIC, and it panics.
        words.push("no_timer_check".to_owned());
        if self.machine == Machine::Microvm {
            words.push(format!("tsc_early_khz={}", host_tsc_khz()));
        }
        words
    }

    fn command(
        &self,
        program: &Program,
        directory: &Path,
        spec: &VmSpec,
        origin: Origin<'_>,
    ) -> Result<Start> {
        self.check(spec)?;
        let home = home::make(directory, spec, origin, &[migration::FILE])?;
        for name in [CONSOLE_IN, CONSOLE_OUT] {
            fifo::make(&home.join(name))?;
        }
        // Both sockets listen before QEMU starts, and QEMU inherits them: a connect never fails and
        // never has to be tried again.
        let mut descriptors =
            vec![FdMapping { parent_fd: listen(&directory.join(QMP_SOCKET))?, child_fd: descriptors::API }];
        if spec.control_port.is_some() {
            let parent_fd = listen(&directory.join(CONTROL_SOCKET))?;
            descriptors.push(FdMapping { parent_fd, child_fd: descriptors::SECOND });
        }
        let mut command = hypeman_process::program(&program.path);
        command.current_dir(&home).args(arguments::of(self.machine, &given::named(spec), origin));
        Ok(Start::new(command, descriptors, given::open(spec, directory, true)?))
    }

    async fn create(&self, vmm: Vmm<'_>, spec: &VmSpec, origin: Origin<'_>) -> Result<Box<dyn Vm>> {
        let vm = vm::QemuVm::connect(vmm, spec.control_port.is_some()).await?;
        if let Origin::Restore(snapshot) = origin {
            vm.restore(snapshot).await?;
            if let Some(home) = home::own(vmm.directory) {
                home::remove_snapshot(&home);
            }
        }
        Ok(Box::new(vm))
    }

    async fn adopt(&self, vmm: Vmm<'_>) -> Result<Box<dyn Vm>> {
        let has_channel = vmm.directory.join(CONTROL_SOCKET).exists();
        Ok(Box::new(vm::QemuVm::adopt(vmm, has_channel).await?))
    }

    fn clean_up(&self, directory: &Path) {
        for socket in [QMP_SOCKET, CONTROL_SOCKET] {
            let _ = socket::remove(&directory.join(socket));
        }
    }
}
