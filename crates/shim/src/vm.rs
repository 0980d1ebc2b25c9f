//! From the launch order to a VM that is ready to boot.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;

use hypeman_confine::Confinement;
use hypeman_console::buffer::Buffer;
use hypeman_network::Passt;
use hypeman_record::confinement::Measure;
use hypeman_record::end::VmmExit;
use hypeman_record::format::Envelope;
use hypeman_record::kind::Kind;
use hypeman_record::launch::Launch;
use hypeman_record::network::Published;
use hypeman_record::process::{Process, boot_id};
use hypeman_record::program::Program;
use hypeman_record::run::{Held, Run};
use hypeman_record::{descriptors, names};
use hypeman_vmm::hypervisor::{self, Hypervisor, Origin};
use hypeman_vmm::process::{Start, VmmProcess};
use hypeman_vmm::vm::{Console, Vm};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use crate::confine;
use crate::error::{Error, Result, StartContext, told};
use crate::journal::Journal;
use crate::keep::Keep;
use crate::network::Network;
use crate::shared::Shared;

/// How much of what a VMM has printed goes into an error, in bytes.
const LAST_WORDS: usize = 4096;

/// Timeout for a VMM to make its VM.
const MAKING: std::time::Duration = std::time::Duration::from_secs(60);

/// Timeout for a VMM that has said something wrong, or broken off, to be gone.
const DEATH: std::time::Duration = std::time::Duration::from_millis(300);

/// A VMM that was just started.
pub(crate) struct Vmm {
    /// Its driver.
    hypervisor: Box<dyn Hypervisor>,
    program: Program,
    /// Its process.
    pub(crate) process: Rc<VmmProcess>,
    /// Descriptors that it holds for the next shim.
    held: Option<Held>,
    /// Its sandbox.
    sandbox: Sandbox,
    /// Output of the VMM itself.
    pub(crate) output: OwnedFd,
    /// The other end of its VM's interface, until the VM is made.
    network: Option<OwnedFd>,
    /// passt, if the interface is not on a bridge.
    pub(crate) passt: Option<Passt>,
}

/// Start of a run's record, from before its VMM starts.
pub(crate) struct Begun {
    pub(crate) started: Timestamp,
    /// How often the guest has rebooted.
    pub(crate) reboots: u32,
    /// Ports of the guest's that can be reached on the host.
    pub(crate) published: Vec<Published>,
}

/// A VM that was made and has not run yet.
pub(crate) struct Made {
    /// The VMM's API.
    pub(crate) vm: Rc<dyn Vm>,
    /// The guest's serial line.
    pub(crate) console: Console,
    /// The record of this run.
    pub(crate) run: Run,
}

impl Vmm {
    /// Starts the VMM in the current directory. It holds the memory of the console's buffer, and
    /// the console's connection.
    pub(crate) fn start(
        launch: &Launch,
        origin: Origin<'_>,
        journal: &Journal,
        buffer: &Buffer,
        keep: &Keep,
        network: &Network,
    ) -> Result<Vmm> {
        let hypervisor = hypeman_vmm::hypervisor(launch.hypervisor);
        let program =
            launch.found.clone().ok_or("the launch order is of an older release").start("find the VMM")?;
        let memory = buffer.memory().start("prepare the VMM")?;
        let (output, vmm_end) = output_pipe()?;
        let (end, passt) = network.for_vmm(&vmm_end)?;
        let held = [memory.as_fd(), keep.store()];
        let mut start =
            hypervisor.command(&program, Path::new("."), &launch.spec, origin).start("prepare the VMM")?;
        start.network = end.as_ref().map(OwnedFd::try_clone).transpose().start("hand over the network")?;
        start.kept = network.in_use().start("hand over the network")?;
        start.confinement = confine::prepare(launch, &program, &start)?;
        let sandbox = start.confinement.as_ref().map(Sandbox::of).unwrap_or_default();
        let (process, held) = spawn(start, &program, vmm_end, held).inspect_err(|_| sandbox.remove())?;
        let held = Held { tap: network.tap().map(|_| descriptors::NETWORK), ..held };
        let pid = process.pid().as_raw_nonzero();
        journal.note(format_args!("started {} {} as pid {pid}", program.path.display(), program.version));
        sandbox.note_what_is_missing(journal);
        Ok(Vmm {
            hypervisor,
            program,
            process: Rc::new(process),
            held: Some(held),
            sandbox,
            output,
            network: end,
            passt,
        })
    }

    /// Takes over the VMM of a run.
    pub(crate) fn adopt(launch: &Launch, run: &Run) -> Result<Vmm> {
        let hypervisor = hypeman_vmm::hypervisor(launch.hypervisor);
        // A launch order of before programs stood in it has none, but the run tells.
        let recorded = || {
            let (path, version) = run.hypervisor.rsplit_once(' ')?;
            Some(Program { path: path.into(), version: version.to_owned() })
        };
        let program =
            launch.found.clone().or_else(recorded).ok_or("no record tells").start("find the VMM")?;
        let process = VmmProcess::adopt(run.vmm.pid).start("take over the VMM")?;
        // Looked at after it is held: from here on it is this process or none.
        if !run.vmm.is_alive() {
            return Err(told("the VMM has ended"));
        }
        let output = open_output().start("open vmm.out")?;
        let sandbox = Sandbox { measures: run.confinement.clone(), cgroup: run.cgroup.clone() };
        Ok(Vmm {
            hypervisor,
            program,
            process: Rc::new(process),
            held: run.held,
            sandbox,
            output,
            network: None,
            passt: None,
        })
    }

    /// The memory that it holds of the console's buffer; `None` when it is of a release before
    /// there was such.
    pub(crate) fn memory(&self) -> Option<Result<OwnedFd>> {
        let memory = self.process.open_held(self.held?.console_memory);
        Some(memory.map(OwnedFd::from).start("open the console's buffer"))
    }

    /// The connection to the console that it holds, if it does and the console is a socket.
    pub(crate) fn kept(&self) -> std::io::Result<(Keep, Console)> {
        let held = self.held.ok_or(std::io::ErrorKind::NotFound)?;
        Keep::open(self.process.borrow_held(held.console_connection)?)
    }

    /// The end of its network that it holds, if it is to hold one.
    pub(crate) fn tap(&self) -> Option<std::io::Result<OwnedFd>> {
        self.held?.tap.map(|number| self.process.borrow_held(number))
    }

    /// Makes the VM and opens its console.
    pub(crate) async fn make(&self, launch: &Launch, origin: Origin<'_>, begun: Begun) -> Result<Made> {
        self.in_time(self.create(launch, origin, begun)).await
    }

    /// Connects to the VM that is there, and to its console if that is not connected.
    pub(crate) async fn connect_again(&self, run: Run, console: Option<Console>) -> Result<Made> {
        let connect = async {
            let vm = self.hypervisor.adopt(self.handle()).await.map_err(told)?;
            match console {
                Some(console) => Ok(Made { vm: Rc::from(vm), console, run }),
                None => opened(Rc::from(vm), run).await,
            }
        };
        self.in_time(connect).await
    }

    async fn in_time(&self, making: impl Future<Output = Result<Made>>) -> Result<Made> {
        let made = tokio::select! {
            made = tokio::time::timeout(MAKING, making) => {
                made.unwrap_or_else(|_| {
                    let reason = format!("the VMM does not answer within {} s", MAKING.as_secs());
                    Err(Error::new(Kind::Silent, reason))
                })
            }
            exit = self.process.ended() => Err(died(exit)),
        };
        let error = match made {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        // A connection that broke is only how we learn that the VMM has died.
        let ended = tokio::time::timeout(DEATH, self.process.ended()).await;
        let Error { kind, reason } = ended.map_or(error, died);
        Err(Error::new(kind, with_words(&last_words(&self.output), &reason)))
    }

    fn handle(&self) -> hypervisor::Vmm<'_> {
        hypervisor::Vmm {
            program: &self.program,
            directory: Path::new("."),
            process: &self.process,
            network: self.network.as_ref().map(AsFd::as_fd),
        }
    }

    async fn create(
        &self,
        launch: &Launch,
        origin: Origin<'_>,
        Begun { started, reboots, published }: Begun,
    ) -> Result<Made> {
        let find = |pid| Process::find(pid).ok_or_else(|| Error::new(Kind::Vmm, "the VMM ended at once"));
        let run = Run {
            boot_id: boot_id(),
            shim: find(std::process::id())?,
            vmm: find(self.process.pid().as_raw_nonzero().get().unsigned_abs())?,
            hypervisor: format!("{} {}", self.program.path.display(), self.program.version),
            accelerator: launch.spec.accelerator,
            started,
            reboots,
            held: self.held,
            confinement: self.sandbox.measures.clone(),
            cgroup: self.sandbox.cgroup.clone(),
            published,
            adoptions: Vec::new(),
            end: None,
            envelope: Envelope { format: Run::WITHOUT_STANDBY, ..Envelope::of::<Run>() },
        };
        let created = self.hypervisor.create(self.handle(), &launch.spec, origin).await;
        opened(Rc::from(created.map_err(told)?), run).await
    }

    /// Ends it, and leaves nothing of it.
    pub(crate) async fn end(&self) {
        if self.process.kill().is_ok() {
            self.process.ended().await;
        }
        self.clean_up();
    }

    /// Lets go of the other end of the VM's interface: passt has to notice when the VMM does so.
    pub(crate) fn let_go_of_network(&mut self) {
        self.network = None;
    }

    /// Removes the sockets and the cgroup of one that has ended.
    pub(crate) fn clean_up(&self) {
        self.hypervisor.clean_up(Path::new("."));
        self.sandbox.remove();
    }
}

/// Sandbox of a VMM.
#[derive(Debug, Default)]
struct Sandbox {
    measures: Vec<Measure>,
    cgroup: Option<PathBuf>,
}

impl Sandbox {
    fn of(confinement: &Confinement) -> Sandbox {
        Sandbox { measures: confinement.measures.clone(), cgroup: confinement.cgroup.clone() }
    }

    fn note_what_is_missing(&self, journal: &Journal) {
        for Measure { measure, missing, .. } in &self.measures {
            if let Some(why) = missing {
                journal.note(format_args!("the VMM is not confined by {measure}: {why}"));
            }
        }
    }

    /// Removes what stays of them when the VMM has ended.
    fn remove(&self) {
        if let Some(cgroup) = &self.cgroup {
            hypeman_confine::cgroup::remove(cgroup);
        }
    }
}

/// Waits for the end of passt, which is no news when the VMM has hung up.
pub(crate) async fn watch_passt(mut passt: Passt, vmm: Rc<VmmProcess>, shared: Rc<Shared>) {
    let how = passt.ended().await;
    if tokio::time::timeout(DEATH, vmm.ended()).await.is_err() {
        let what = format!("it has no network any more until it is started anew: passt has ended ({how})");
        shared.journal.note(format_args!("{what}; vmm.log may say more"));
        shared.published.send_modify(|published| published.cut_off = Some(what));
    }
}

/// A VM with its console.
async fn opened(vm: Rc<dyn Vm>, run: Run) -> Result<Made> {
    let console = vm.console().await.map_err(told)?;
    Ok(Made { vm, console, run })
}

fn spawn(
    mut start: Start,
    program: &Program,
    output: OwnedFd,
    held: [BorrowedFd<'_>; 2],
) -> Result<(VmmProcess, Held)> {
    start.command.stdin(Stdio::null());
    start.command.stdout(output.try_clone().start("prepare the VMM")?).stderr(output);
    // With the command our copies of the descriptors go that are the VMM's now.
    let started = VmmProcess::start(start, Path::new(names::VMM_PID), held);
    let (process, [console_memory, console_connection]) =
        started.start(&format!("start {}", program.path.display()))?;
    Ok((process, Held { console_memory, console_connection, tap: None }))
}

fn died(exit: VmmExit) -> Error {
    let (kind, how) = match exit {
        VmmExit::Code(code) => (Kind::Vmm, format!("exit status: {code}")),
        // Somebody has killed it: who removes an instance that is busy, most often.
        VmmExit::Signal(9) => (Kind::Cancelled, "signal: 9".to_owned()),
        VmmExit::Signal(signal) => (Kind::Vmm, format!("signal: {signal}")),
        VmmExit::Unknown => (Kind::Vmm, "in an unknown way".to_owned()),
    };
    Error::new(kind, format_args!("the VMM ended before the VM was made ({how})"))
}

/// A FIFO for what the VMM prints. Both its ends are the VMM's as well (O_RDWR), so that it
/// outlives us.
fn output_pipe() -> Result<(OwnedFd, OwnedFd)> {
    hypeman_vmm::fifo::make(Path::new(names::VMM_OUTPUT)).start("make vmm.out")?;
    let vmm_end = rustix::fs::open(names::VMM_OUTPUT, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    Ok((open_output().start("open vmm.out")?, vmm_end.start("open vmm.out")?))
}

/// Our end of it.
pub(crate) fn open_output() -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(names::VMM_OUTPUT, flags, Mode::empty())?)
}

/// Returns the output of a VMM that failed, which mostly is its reason.
fn last_words(output: &OwnedFd) -> String {
    let mut bytes = vec![0; LAST_WORDS];
    let length = rustix::io::read(output, &mut bytes).unwrap_or(0);
    text(&bytes[..length])
}

/// The same, when it is in the log already.
pub(crate) fn last_words_logged() -> String {
    let log = std::fs::read(names::VMM_LOG).unwrap_or_default(); // bounded, as all logs are
    text(&log[log.len().saturating_sub(LAST_WORDS)..])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// A reason, after the VMM's own words: those tell the cause.
pub(crate) fn with_words(words: &str, reason: &str) -> String {
    if words.is_empty() { reason.to_owned() } else { format!("{words} ({reason})") }
}
