//! A VM in a running QEMU.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use async_trait::async_trait;
use hypeman_files::AtPath;
use rustix::fs::OFlags;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::events::Events;
use super::file_format::FileFormat;
use super::qmp::{
    Command, Cont, Event, HumanMonitorCommand, Qmp, QueryStatus, Quit, RunState, Stop, SystemPowerdown,
};
use super::{CONSOLE_IN, CONSOLE_OUT, CONTROL_SOCKET, QMP_SOCKET, registers};
use crate::error::Result;
use crate::home;
use crate::hypervisor::Vmm;
use crate::vm::{Console, KeepConsole, Paused, Vm, VmStatus};

/// Capacity asked for the console's pipe, in bytes: the most an ordinary user may have
/// (`/proc/sys/fs/pipe-max-size`, pipe(7)). While no one reads, so much is kept before the guest
/// has to wait.
const PIPE_SIZE: usize = 1024 * 1024;

/// A connection to a QEMU.
pub(crate) struct QemuVm {
    pub(super) directory: PathBuf,
    pub(super) file_format: FileFormat,
    /// QMP's, for descriptors that are to be sent.
    pub(super) socket: OwnedFd,
    qmp: Qmp,
    status: Rc<watch::Sender<VmStatus>>,
    has_channel: bool,
}

impl QemuVm {
    /// Connects to QMP and listens to its events from then on. Needs a tokio `LocalSet`.
    pub(crate) async fn connect(vmm: Vmm<'_>, has_channel: bool) -> Result<QemuVm> {
        let path = vmm.directory.join(QMP_SOCKET);
        let stream = UnixStream::connect(&path).await.at(&path)?;
        let socket = stream.as_fd().try_clone_to_owned().at(&path)?;
        let status = Rc::new(watch::Sender::new(VmStatus::default()));
        let (heard, mut events) = (status.clone(), Events::default());
        let on_event = move |event: Option<Event>| {
            heard.send_modify(|status| match event {
                Some(event) => events.apply(&event, status),
                None => status.is_last = true,
            });
        };
        let qmp = Qmp::open(stream, on_event).await.at(&path)?;
        Ok(QemuVm {
            directory: vmm.directory.to_owned(),
            file_format: FileFormat::of(vmm.program),
            socket,
            qmp,
            status,
            has_channel,
        })
    }

    /// As [`QemuVm::connect`], to a QEMU that has run for a while: learns what has happened before.
    /// Nothing of an earlier client's is in flight by now: QEMU carries out one command at a time,
    /// and forgets those that wait when their client has gone, which it does before it greets the
    /// next one (`monitor_qmp_event` in monitor/qmp.c, `tcp_chr_disconnect` in
    /// chardev/char-socket.c). Only a migration goes on; [`crate::vm::Vm::abandon_snapshot`] ends
    /// that.
    pub(crate) async fn adopt(vmm: Vmm<'_>, has_channel: bool) -> Result<QemuVm> {
        let vm = QemuVm::connect(vmm, has_channel).await?;
        let state = vm.execute(QueryStatus {}).await?.status;
        vm.status.send_modify(|status| {
            status.booted |= !matches!(state, RunState::Prelaunch | RunState::Inmigrate);
            status.paused = match state {
                // The latter two while it is being snapshotted, and after.
                RunState::Paused | RunState::FinishMigrate | RunState::Postmigrate => Some(Paused::Requested),
                RunState::IoError => Some(Paused::DiskFull),
                _ => status.paused.take(),
            };
        });
        Ok(vm)
    }

    /// Gives a command, and waits for its answer.
    pub(super) async fn execute<C: Command>(&self, command: C) -> Result<C::Answer> {
        self.qmp.execute(command).await
    }
}

#[async_trait(?Send)]
impl Vm for QemuVm {
    fn status(&self) -> watch::Receiver<VmStatus> {
        self.status.subscribe()
    }

    async fn console(&self) -> Result<Console> {
        let open = |name: &str, flags: OFlags| home::open_fifo(&home::of(&self.directory).join(name), flags);
        let output = open(CONSOLE_OUT, OFlags::RDONLY)?;
        // It may be refused: all pipes of an ordinary user together may not be larger than pipe(7)
        // tells. Then the guest has to wait sooner while nobody reads.
        let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_SIZE);
        Ok(Console { output, input: open(CONSOLE_IN, OFlags::WRONLY)? })
    }

    async fn boot(&self) -> Result<()> {
        self.resume().await
    }

    async fn power_button(&self) -> Result<()> {
        self.execute(SystemPowerdown {}).await.map(drop)
    }

    async fn quit(&self) -> Result<()> {
        self.execute(Quit {}).await.map(drop)
    }

    async fn pause(&self) -> Result<()> {
        self.execute(Stop {}).await.map(drop)
    }

    async fn resume(&self) -> Result<()> {
        self.execute(Cont {}).await.map(drop)
    }

    async fn take_added_memory(&self) -> Result<()> {
        Ok(()) // nothing can be added
    }

    async fn snapshot(&self, directory: &Path) -> Result<()> {
        self.save(directory).await
    }

    fn holds_console_back(&self) -> bool {
        false // a guest waits when the pipe is full
    }

    async fn rest_of_console(&self, _keep: &mut KeepConsole<'_>) -> Result<Option<Console>> {
        Ok(None) // what it could not write into the pipe is still the UART's, and part of the snapshot (hw/char/serial.c)
    }

    async fn abandon_snapshot(&self) -> Result<()> {
        self.forget_last().await
    }

    async fn is_halted(&self) -> Result<bool> {
        let command_line = "info registers -a".to_owned();
        let registers = self.execute(HumanMonitorCommand { command_line }).await?;
        Ok(registers::all_halted(&registers))
    }

    async fn is_unrunnable(&self) -> Result<bool> {
        // "further guest execution is prevented" (RunState in qapi/run-state.json)
        Ok(self.execute(QueryStatus {}).await?.status == RunState::InternalError)
    }

    async fn channel(&self, _vsock_port: u32) -> Result<Option<UnixStream>> {
        if !self.has_channel {
            return Ok(None);
        }
        let path = self.directory.join(CONTROL_SOCKET);
        Ok(Some(UnixStream::connect(&path).await.at(&path)?))
    }
}
