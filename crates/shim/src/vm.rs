//! From the launch order to a VM that is ready to boot.

use std::os::fd::OwnedFd;
use std::path::Path;

use hypeman_record::format::Envelope;
use hypeman_record::launch::Launch;
use hypeman_record::names;
use hypeman_record::process::{Process, boot_id};
use hypeman_record::run::Run;
use hypeman_vmm::hypervisor::{self, Console, Hypervisor, Program, Vm, Vmm};
use hypeman_vmm::spec::VmSpec;
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use tokio::process::{Child, Command};

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
    pub(crate) child: Child,
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
    let program = discover(&*hypervisor, launch)?;
    let (vmm_output, vmm_end) = output_pipe()?;
    let mut child = spawn(&*hypervisor, &program, &launch.spec, vmm_end)?;
    journal.note(format_args!(
        "started {} {} as pid {}",
        program.path.display(),
        program.version,
        pid(&child)
    ));
    let pid = pid(&child);
    let connected = tokio::select! {
        connected = connect(&*hypervisor, &program, launch, pid) => connected,
        status = child.wait() => Err(died(&status)),
    };
    match connected {
        Ok((run, vm, console)) => Ok(Created { hypervisor, child, vm, console, vmm_output, run }),
        Err(reason) => {
            // A connection that broke is only how we learn that the VMM has died.
            let ended = tokio::time::timeout(DEATH, child.wait()).await;
            kill(&*hypervisor, &mut child).await;
            let reason = ended.map_or(reason, |status| died(&status));
            Err(Error::new(with_words(&last_words(&vmm_output), &reason)))
        }
    }
}

/// Finds the VMM's program.
fn discover(hypervisor: &dyn Hypervisor, launch: &Launch) -> Result<Program> {
    hypervisor.discover(launch.program.as_deref()).map_err(|error| {
        let missing_program = match &error {
            hypervisor::Error::NotInstalled { program } => Some(*program),
            _ => None,
        };
        Error { missing_program, ..Error::new(format!("find the VMM: {error}")) }
    })
}

/// Starts the VMM in the current directory.
fn spawn(hypervisor: &dyn Hypervisor, program: &Program, spec: &VmSpec, output: OwnedFd) -> Result<Child> {
    let command = hypervisor.command(program, Path::new("."), spec).start("prepare the VMM")?;
    let mut command = Command::from(command);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    command.stdout(output.try_clone().start("prepare the VMM")?).stderr(output);
    // With the command our copies of the descriptors go that are the VMM's now.
    command.spawn().start(&format!("start {}", program.path.display()))
}

/// Creates the VM and opens its console; or tells why not.
async fn connect(
    hypervisor: &dyn Hypervisor,
    program: &Program,
    launch: &Launch,
    pid: u32,
) -> std::result::Result<(Run, Box<dyn Vm>, Console), String> {
    let process = |pid| Process::find(pid).ok_or("the VMM ended at once");
    let run = Run {
        boot_id: boot_id(),
        shim: process(std::process::id())?,
        vmm: process(pid)?,
        hypervisor: format!("{} {}", program.path.display(), program.version),
        accelerator: launch.spec.accelerator,
        started: Timestamp::now(),
        end: None,
        envelope: Envelope::of::<Run>(),
    };
    let vmm = Vmm { program, directory: Path::new("."), pid: run.vmm.pid.cast_signed() };
    let mut vm = hypervisor.create(vmm, &launch.spec).await.map_err(|error| error.to_string())?;
    let console = vm.console().await.map_err(|error| error.to_string())?;
    Ok((run, vm, console))
}

/// Ends a VMM that could not be started to its end, and leaves nothing of it.
pub(crate) async fn kill(hypervisor: &dyn Hypervisor, child: &mut Child) {
    let _ = child.kill().await; // it may have ended already
    hypervisor.clean_up(Path::new("."));
}

/// The VMM's process id; 0 for one that was reaped, which no caller meets.
fn pid(child: &Child) -> u32 {
    child.id().unwrap_or_default()
}

fn died(status: &std::io::Result<std::process::ExitStatus>) -> String {
    match status {
        Ok(status) => format!("the VMM ended before the VM was made ({status})"),
        Err(error) => format!("the VMM cannot be waited for: {error}"),
    }
}

/// A FIFO for what the VMM prints. Both its ends are the VMM's as well (O_RDWR), so that it outlives us.
fn output_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let path = names::VMM_OUTPUT;
    match rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error).start("make vmm.out"),
    }
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
