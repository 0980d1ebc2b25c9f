//! A VM in a running QEMU.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use async_trait::async_trait;
use futures_util::StreamExt;
use hypeman_files::AtPath;
use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp::{self, Event, QmpCommand};
use rustix::fs::{Mode, OFlags};
use tokio::io::WriteHalf;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::{CONSOLE_IN, CONSOLE_OUT, QMP_SOCKET, events, registers};
use crate::hypervisor::{Console, Error, Result, ShutdownReason, Vm};

/// Capacity asked for the console's pipe, in bytes: the most an ordinary user may have (`/proc/sys/fs/pipe-max-size`,
/// pipe(7)). While no one reads, so much is kept before the guest has to wait.
const PIPE_SIZE: usize = 1024 * 1024;

/// Most commands that may wait for an answer: a QEMU that is silent gets no more of them.
const MAX_IN_FLIGHT: usize = 16;

/// A connection to a QEMU.
pub(crate) struct QemuVm {
    directory: PathBuf,
    service: QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>,
    reason: Rc<Cell<Option<ShutdownReason>>>,
    events: Option<JoinHandle<()>>,
    /// Has a clone for each command that QEMU has not answered.
    in_flight: Rc<()>,
}

impl QemuVm {
    /// Connects to QMP and listens to its events from then on. Needs a tokio `LocalSet`.
    pub(crate) async fn connect(directory: &Path) -> Result<QemuVm> {
        let path = directory.join(QMP_SOCKET);
        let negotiation = QmpStreamTokio::open_uds(&path).await.at(&path)?;
        let (service, mut stream) = negotiation.negotiate().await.at(&path)?.into_parts();
        let reason = Rc::new(Cell::new(None));
        let heard = reason.clone();
        let mut panicked = false;
        // Reads to the very end: the SHUTDOWN event is the last thing QEMU says.
        let events = tokio::task::spawn_local(async move {
            while let Some(Ok(event)) = stream.next().await {
                match event {
                    Event::GUEST_PANICKED { .. } => panicked = true,
                    Event::SHUTDOWN { data, .. } => {
                        let reset = events::reason(data.reason);
                        let dead = panicked && reset == Some(ShutdownReason::GuestReset);
                        heard.set(if dead { Some(ShutdownReason::GuestPanic) } else { reset });
                    }
                    _ => {}
                }
            }
        });
        Ok(QemuVm {
            directory: directory.to_owned(),
            service,
            reason,
            events: Some(events),
            in_flight: Rc::new(()),
        })
    }

    /// Gives a command, and waits for its answer. Whoever waits may stop waiting at any time; the command does not: without
    /// out-of-band QMP has no ids, so an answer that nobody read would be taken for that to the next command.
    async fn execute<C: QmpCommand + 'static>(&self, command: C) -> Result<C::Ok>
    where
        C::Ok: 'static,
    {
        let failed = |message: String| Error::Api { request: C::NAME.to_owned(), message };
        if Rc::strong_count(&self.in_flight) > MAX_IN_FLIGHT {
            return Err(failed("the VMM has not answered earlier requests".to_owned()));
        }
        let (in_flight, answered) = (self.in_flight.clone(), self.service.execute(command));
        let call = tokio::task::spawn_local(async move {
            let answer = answered.await;
            drop(in_flight);
            answer
        });
        match call.await {
            Ok(answer) => answer.map_err(|error| failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

#[async_trait(?Send)]
impl Vm for QemuVm {
    async fn console(&mut self) -> Result<Console> {
        let open = |name: &str, flags: OFlags| {
            let path = self.directory.join(name);
            rustix::fs::open(&path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).at(&path)
        };
        let output = open(CONSOLE_OUT, OFlags::RDONLY)?;
        // It may be refused: all pipes of an ordinary user together may not be larger than pipe(7) tells. Then the guest has
        // to wait sooner while nobody reads.
        let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_SIZE);
        Ok(Console { output, input: open(CONSOLE_IN, OFlags::WRONLY)? })
    }

    async fn boot(&mut self) -> Result<()> {
        self.execute(qmp::cont {}).await.map(drop)
    }

    async fn power_button(&mut self) -> Result<()> {
        self.execute(qmp::system_powerdown {}).await.map(drop)
    }

    async fn quit(&mut self) -> Result<()> {
        self.execute(qmp::quit {}).await.map(drop)
    }

    async fn pause(&mut self) -> Result<()> {
        self.execute(qmp::stop {}).await.map(drop)
    }

    async fn resume(&mut self) -> Result<()> {
        self.boot().await
    }

    async fn is_paused(&mut self) -> Result<bool> {
        Ok(self.execute(qmp::query_status {}).await?.status == qmp::RunState::paused)
    }

    async fn is_halted(&mut self) -> Result<bool> {
        let command_line = "info registers -a".to_owned();
        let registers = self.execute(qmp::human_monitor_command { command_line, cpu_index: None }).await?;
        Ok(registers::all_halted(&registers))
    }

    async fn shutdown_reason(&mut self) -> Option<ShutdownReason> {
        if let Some(events) = self.events.take() {
            let _ = events.await; // the stream has ended with QEMU
        }
        self.reason.get()
    }
}
