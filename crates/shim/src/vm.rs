//! From the launch order to a VM that is ready to boot.

use std::os::fd::OwnedFd;
use std::path::Path;

use hypeman_instance::launch::Launch;
use hypeman_instance::layout::names;
use hypeman_instance::process::{Process, boot_id};
use hypeman_instance::run::Run;
use hypeman_vmm::hypervisor::{Console, Hypervisor, Vm, Vmm};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use tokio::process::{Child, Command};

use crate::error::{Error, Result, StartContext};
use crate::journal::Journal;

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

/// Starts the VMM, creates the VM and opens its console. When that fails, no VMM is left.
pub(crate) async fn create(launch: &Launch, journal: &Journal) -> Result<Created> {
    let hypervisor = hypeman_vmm::hypervisor(launch.hypervisor);
    let program = hypervisor.discover(launch.program.as_deref()).start("find the VMM")?;
    let directory = Path::new(".");
    let command = hypervisor.command(&program, directory, &launch.spec).start("prepare the VMM")?;
    let (vmm_output, vmm_end) = output_pipe()?;
    let mut command = Command::from(command);
    command.stdin(std::process::Stdio::null());
    command.stdout(vmm_end.try_clone().start("prepare the VMM")?).stderr(vmm_end);
    let mut child = command.spawn().start(&format!("start {}", program.path.display()))?;
    drop(command); // and with it our copies of the descriptors that are the VMM's now
    journal.note(format_args!(
        "started {} {} as pid {}",
        program.path.display(),
        program.version,
        pid(&child)
    ));

    let run = Run {
        boot_id: boot_id(),
        shim: identity(std::process::id())?,
        vmm: identity(pid(&child))?,
        hypervisor: format!("{} {}", program.path.display(), program.version),
        accelerator: launch.spec.accelerator,
        started: Timestamp::now(),
        end: None,
    };
    let connected = async {
        let vmm = Vmm { program: &program, directory, pid: run.vmm.pid.cast_signed() };
        let mut vm = hypervisor.create(vmm, &launch.spec).await?;
        let console = vm.console().await?;
        Ok::<_, hypeman_vmm::hypervisor::Error>((vm, console))
    };
    let connected = tokio::select! {
        connected = connected => connected.map_err(|error| error.to_string()),
        status = child.wait() => Err(died(&status)),
    };
    match connected {
        Ok((vm, console)) => Ok(Created { hypervisor, child, vm, console, vmm_output, run }),
        Err(reason) => {
            kill(&*hypervisor, &mut child).await;
            Err(Error::Start(format!("{reason}{}", last_words(&vmm_output))))
        }
    }
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

fn identity(pid: u32) -> Result<Process> {
    Process::find(pid).ok_or("it ended at once").start("look up the process")
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
    let mut bytes = vec![0; 4096];
    let length = rustix::io::read(output, &mut bytes).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..length]);
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
