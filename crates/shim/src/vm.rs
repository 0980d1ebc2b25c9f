//! From the launch order to a VM that is ready to boot.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;

use hypeman_files::Lock;
use hypeman_record::format::Envelope;
use hypeman_record::launch::Launch;
use hypeman_record::names;
use hypeman_record::process::{Process, boot_id};
use hypeman_record::run::Run;
use hypeman_vmm::hypervisor::{Hypervisor, Origin, Program, Vmm};
use hypeman_vmm::process::{VmmExit, VmmProcess};
use hypeman_vmm::spec::VmSpec;
use hypeman_vmm::vm::{Console, Vm};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result, StartContext};
use crate::journal::Journal;

/// How much of what a VMM has printed goes into an error, in bytes.
const LAST_WORDS: usize = 4096;

/// How long a VMM that has said something wrong, or broken off, may take to be gone.
const DEATH: std::time::Duration = std::time::Duration::from_millis(300);

/// A VM that was created and has not run yet.
pub(crate) struct Created {
    /// The driver.
    pub(crate) hypervisor: Box<dyn Hypervisor>,
    /// The VMM's process.
    pub(crate) process: Rc<VmmProcess>,
    /// The VMM's API.
    pub(crate) vm: Box<dyn Vm>,
    /// The guest's serial line.
    pub(crate) console: Console,
    /// What the VMM itself prints.
    pub(crate) vmm_output: OwnedFd,
    /// The record of this run.
    pub(crate) run: Run,
}

/// Starts the VMM, creates the VM and opens its console. When that fails, nothing of the VMM is left.
pub(crate) async fn create(launch: &Launch, journal: &Journal) -> Result<Created> {
    let hypervisor = hypeman_vmm::hypervisor(launch.hypervisor);
    let program =
        launch.found.as_ref().ok_or("the launch order is of an older release").start("find the VMM")?;
    let (vmm_output, vmm_end) = output_pipe()?;
    let process = Rc::new(spawn(&*hypervisor, program, &launch.spec, vmm_end)?);
    let pid = process.pid().as_raw_nonzero();
    journal.note(format_args!("started {} {} as pid {pid}", program.path.display(), program.version));
    let connected = tokio::select! {
        connected = connect(&*hypervisor, program, launch, &process) => connected,
        exit = process.ended() => Err(died(exit)),
    };
    match connected {
        Ok((run, vm, console)) => Ok(Created { hypervisor, process, vm, console, vmm_output, run }),
        Err(reason) => {
            // A connection that broke is only how we learn that the VMM has died.
            let ended = tokio::time::timeout(DEATH, process.ended()).await;
            kill(&*hypervisor, &process).await;
            let reason = ended.map_or(reason, died);
            Err(Error::new(with_words(&last_words(&vmm_output), &reason)))
        }
    }
}

/// Starts the VMM in the current directory.
fn spawn(
    hypervisor: &dyn Hypervisor,
    program: &Program,
    spec: &VmSpec,
    output: OwnedFd,
) -> Result<VmmProcess> {
    let alive = Lock::try_acquire(Path::new(names::VMM_PID))
        .start("lock vmm.pid")?
        .ok_or("a VMM of this instance still runs")
        .start("lock vmm.pid")?;
    let mut command =
        hypervisor.command(program, Path::new("."), spec, Origin::Boot).start("prepare the VMM")?;
    command.stdin(Stdio::null());
    command.stdout(output.try_clone().start("prepare the VMM")?).stderr(output);
    // With the command our copies of the descriptors go that are the VMM's now.
    VmmProcess::start(command, alive).start(&format!("start {}", program.path.display()))
}

/// Creates the VM and opens its console; or tells why not.
async fn connect(
    hypervisor: &dyn Hypervisor,
    program: &Program,
    launch: &Launch,
    process: &Rc<VmmProcess>,
) -> std::result::Result<(Run, Box<dyn Vm>, Console), String> {
    let find = |pid| Process::find(pid).ok_or("the VMM ended at once");
    let run = Run {
        boot_id: boot_id(),
        shim: find(std::process::id())?,
        vmm: find(process.pid().as_raw_nonzero().get().unsigned_abs())?,
        hypervisor: format!("{} {}", program.path.display(), program.version),
        accelerator: launch.spec.accelerator,
        started: Timestamp::now(),
        end: None,
        envelope: Envelope::of::<Run>(),
    };
    let vmm = Vmm { program, directory: Path::new("."), process };
    let created = hypervisor.create(vmm, &launch.spec, Origin::Boot).await;
    let vm = created.map_err(|error| error.to_string())?;
    let console = vm.console().await.map_err(|error| error.to_string())?;
    Ok((run, vm, console))
}

/// Ends a VMM that could not be started to its end, and leaves nothing of it.
pub(crate) async fn kill(hypervisor: &dyn Hypervisor, process: &VmmProcess) {
    if process.kill().is_ok() {
        process.ended().await;
    }
    hypervisor.clean_up(Path::new("."));
}

fn died(exit: VmmExit) -> String {
    let how = match exit {
        VmmExit::Code(code) => format!("exit status: {code}"),
        VmmExit::Signal(signal) => format!("signal: {signal}"),
        VmmExit::Unknown => "nobody knows how".to_owned(),
    };
    format!("the VMM ended before the VM was made ({how})")
}

/// A FIFO for what the VMM prints. Both its ends are the VMM's as well (O_RDWR), so that it outlives us.
fn output_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let path = Path::new(names::VMM_OUTPUT);
    hypeman_vmm::fifo::make(path).start("make vmm.out")?;
    let open = |flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).start("open vmm.out");
    Ok((open(OFlags::RDONLY | OFlags::NONBLOCK)?, open(OFlags::RDWR)?))
}

/// What a VMM that failed has printed: its reason, most often.
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
