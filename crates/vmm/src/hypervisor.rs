//! The trait each hypervisor implements, in the order in which a supervisor calls it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use async_trait::async_trait;

use crate::spec::VmSpec;

/// Where a hypervisor's program is and what it says of its version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Program {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Version as the program prints it, for example `7.2.22`.
    pub version: String,
}

/// A VMM's process, just started from [`Hypervisor::command`].
#[derive(Debug, Clone, Copy)]
pub struct Vmm<'a> {
    /// Its program.
    pub program: &'a Program,
    /// Its directory; the caller's current one too when its path is long (a socket's has at most 107 bytes).
    pub directory: &'a Path,
    /// Its process id, which is its own until this call returns: nobody has waited for it.
    pub pid: i32,
}

/// The end of the guest's serial line that we own: a non-blocking descriptor to read from.
#[derive(Debug)]
pub struct Console {
    /// What the guest prints.
    pub output: OwnedFd,
    /// What the guest reads as typed input; the same file for a socket.
    pub input: OwnedFd,
}

/// Why a VM ended, as far as the VMM told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest reset itself: a reboot, a triple fault, a panic that nobody was told of.
    GuestReset,
    /// The guest's kernel panicked, and said so.
    GuestPanic,
    /// The guest has halted all its CPUs for good.
    GuestHalt,
    /// We asked the VMM to quit.
    HostRequest,
    /// The VMM was ended by a signal.
    HostSignal,
}

/// What a hypervisor cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// Memory cannot be added to a VM of QEMU's.
    MemoryHotplug,
    /// Cloud Hypervisor has only KVM.
    Tcg,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Unsupported::MemoryHotplug => "memory cannot be added to a VM of QEMU's",
            Unsupported::Tcg => "Cloud Hypervisor runs on KVM only",
        })
    }
}

/// Errors of the VMM drivers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hypervisor's program is not there.
    #[error("{program} is not in PATH")]
    NotInstalled {
        /// Its name.
        program: &'static str,
    },
    /// The hypervisor's program cannot be used.
    #[error("{by}{}: {reason}", path.display())]
    Unusable {
        /// Who has named it, with a colon; empty when it was found in `PATH`.
        by: String,
        /// The program.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The release is too old.
    #[error(
        "{} is Cloud Hypervisor {version}; v{oldest}.0 or newer is needed, because older ones cannot keep a serial line whole on \
         a socket",
        path.display()
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The oldest release that can be used.
        oldest: u32,
    },
    /// The program does not run on this host's KVM.
    #[error("{} does not run on this host's KVM: {reason}", path.display())]
    NoKvm {
        /// The program.
        path: PathBuf,
        /// Its words.
        reason: String,
    },
    /// The hypervisor cannot do what the specification asks for.
    #[error("{0}")]
    Unsupported(Unsupported),
    /// A file, FIFO or socket in the VM's directory could not be made, opened or removed.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// The VMM ended while it was asked for something.
    #[error("{request}: the VMM broke off: {message}")]
    BrokenOff {
        /// The request.
        request: String,
        /// What the connection said.
        message: String,
    },
    /// The VMM refused a request.
    #[error("{request}: {message}")]
    Api {
        /// The request.
        request: String,
        /// The VMM's words, outermost cause first.
        message: String,
    },
}

/// Result of the drivers.
pub type Result<T> = std::result::Result<T, Error>;

/// A hypervisor: makes VMs of its kind. Stateless.
#[async_trait(?Send)]
pub trait Hypervisor {
    /// Finds the program (`path`, else the `HYPEMAN_*` variable, else `PATH`) and reads its version by running it.
    fn discover(&self, path: Option<&Path>) -> Result<Program>;

    /// Prepares `directory` (FIFOs, no stale sockets) and gives the command that starts the VMM there. The VMM must
    /// start with the guest stopped.
    fn command(&self, program: &Program, directory: &Path, spec: &VmSpec) -> Result<Command>;

    /// Connects to the API of the VMM that was just started from [`Hypervisor::command`], and creates the VM there when
    /// the VMM wants that as a step of its own. The guest has not run yet. The caller drops this future when the VMM's
    /// process ends.
    async fn create(&self, vmm: Vmm<'_>, spec: &VmSpec) -> Result<Box<dyn Vm>>;

    /// Removes the sockets of a VMM that has ended, however it did. What cannot be removed is no obstacle to a new start.
    fn clean_up(&self, directory: &Path);
}

/// A VM that was created and is connected to.
#[async_trait(?Send)]
pub trait Vm {
    /// Opens the console, before [`Vm::boot`]; and again when its other end has closed while the VMM lives on.
    async fn console(&mut self) -> Result<Console>;
    /// Lets the guest run its first instruction.
    async fn boot(&mut self) -> Result<()>;
    /// Presses the power button; the guest may ignore it.
    async fn power_button(&mut self) -> Result<()>;
    /// Ends the VMM at once, without asking the guest.
    async fn quit(&mut self) -> Result<()>;
    /// Stops the vCPUs.
    async fn pause(&mut self) -> Result<()>;
    /// Lets the vCPUs go on.
    async fn resume(&mut self) -> Result<()>;
    /// Whether the vCPUs are stopped, by whomever.
    async fn is_paused(&mut self) -> Result<bool>;
    /// Whether the guest has halted all its CPUs with interrupts off: it will never run again. A VMM that cannot tell says no.
    async fn is_halted(&mut self) -> Result<bool>;
    /// What the VMM has said of why the VM ended; asked after the VMM's process has ended.
    async fn shutdown_reason(&mut self) -> Option<ShutdownReason>;
}
