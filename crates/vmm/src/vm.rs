//! A VM that was made and is connected to: what can be asked of it, and what it tells.

use std::os::fd::OwnedFd;
use std::path::Path;

use async_trait::async_trait;
use hypeman_record::end::ShutdownReason;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::error::Result;

/// The end of the guest's serial line that we own: non-blocking descriptors, which are closed
/// together.
#[derive(Debug)]
pub struct Console {
    /// Console output of the guest.
    pub output: OwnedFd,
    /// Console input of the guest; the same file for a socket.
    pub input: OwnedFd,
}

/// Why a guest does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// Someone has asked for it.
    Requested,
    /// The host's disk had no room for what the guest wrote. It goes on when it is resumed and
    /// there is room.
    DiskFull,
    /// The host could not read or write the guest's disk, in the VMM's words.
    DiskError(String),
}

/// Status of a VM as its VMM has reported it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmStatus {
    /// Whether the guest has begun to run.
    pub booted: bool,
    /// Whether its vCPUs are stopped, and why.
    pub paused: Option<Paused>,
    /// Why it ended, once it has.
    pub shutdown: Option<ShutdownReason>,
    /// Whether the VMM tells no more: it has ended, or its connection to us has.
    pub is_last: bool,
}

/// Keeps a connection to a console for the next shim.
pub type KeepConsole<'a> = dyn FnMut(&Console) -> std::io::Result<()> + 'a;

/// A VM in a VMM that runs. A future that is dropped gives up the answer, not the request.
#[async_trait(?Send)]
pub trait Vm {
    /// Returns the reported status, as it changes.
    fn status(&self) -> watch::Receiver<VmStatus>;
    /// Opens the console, before [`Vm::boot`]; and again when its other end has closed while the
    /// VMM lives on.
    async fn console(&self) -> Result<Console>;
    /// Lets the guest run: its first instruction, or where it was when it was snapshotted.
    async fn boot(&self) -> Result<()>;
    /// Presses the power button; the guest may ignore it.
    async fn power_button(&self) -> Result<()>;
    /// Ends the VMM at once, without asking the guest.
    async fn quit(&self) -> Result<()>;
    /// Stops the vCPUs.
    async fn pause(&self) -> Result<()>;
    /// Lets the vCPUs go on.
    async fn resume(&self) -> Result<()>;
    /// Takes back from a VM that runs the memory that was added to it, as far as its guest gives
    /// it. Waits until it has; the caller limits that.
    async fn take_added_memory(&self) -> Result<()>;
    /// Writes memory and devices of a paused VM into `directory`, which exists, for
    /// [`crate::hypervisor::Origin::Restore`]. Disks are not part of it.
    async fn snapshot(&self, directory: &Path) -> Result<()>;
    /// Whether the VMM holds back what its console's reader is too slow for, and loses it when it
    /// ends, instead of letting the guest wait.
    fn holds_console_back(&self) -> bool;
    /// Waits until the VMM has served the console's connection of a paused VM: what it had held
    /// back up to then lies in the connection, as much as fits in.
    async fn console_is_served(&self) {}
    /// Another connection to the console of a paused VM, in which lies what the VMM had held back,
    /// as much as fits in; `None` for a VMM that holds nothing back. The connected client is not
    /// any more. `keep` sees the connection before anything comes over it.
    async fn rest_of_console(&self, keep: &mut KeepConsole<'_>) -> Result<Option<Console>>;
    /// Gives up a snapshot that was begun, by this shim or by one before, so that the VM can go on.
    async fn abandon_snapshot(&self) -> Result<()>;
    /// Whether the guest has halted all its CPUs with interrupts off: it will never run again. A
    /// VMM that cannot tell says no.
    async fn is_halted(&self) -> Result<bool>;
    /// Whether the VMM has paused the guest because it cannot go on with it, and never will.
    async fn is_unrunnable(&self) -> Result<bool> {
        Ok(false)
    }
    /// Connects to the channel of the guest agent, on this port where it is vsock;
    /// `None` where the VM has none. Where someone has to listen for that, it fails until they do.
    async fn channel(&self, vsock_port: u32) -> Result<Option<UnixStream>>;
}
