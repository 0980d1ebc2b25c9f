//! Exec mode: the command is our child, we reap and report.
#![allow(unsafe_code)] // what happens between fork and exec

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use hypeman_guest::config::GuestConfig;
use hypeman_guest::status::Status;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::program::Program;
use crate::report::{self, Context, Failure};
use crate::streams::{Streams, take_terminal};
use crate::user::{self, User};
use crate::{console, requests};

const SIGTERM: i32 = 15;

/// Runs the command to its end, and reports how it ended.
pub(crate) fn run(config: &GuestConfig, status: &File) -> Result<(), Failure> {
    let user = user::resolve(&config.user)?;
    std::fs::create_dir_all(&config.workdir)
        .context(&format!("make the working directory {}", config.workdir))?;
    let program = Program::find(config, &user.home)?;
    let terminal = console::open()?;
    let (streams, printed) = Streams::open(config.stdio, terminal, &user)?;
    let child = start(config, user, program, streams)?;
    let output = printed.copy();
    // First, for whoever sees it run may ask for its end.
    requests::listen(child, config.stop_signal.unwrap_or(SIGTERM));
    report::write(status, &Status::Running);
    let end = wait(child);
    // What it has left running goes as it would with a container. Group 1 is kill(2)'s pid -1: everyone but us.
    let _ = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
    if let Some(output) = output {
        output.finish();
    }
    report::write(status, &end);
    Ok(())
}

/// Starts the command. In a thread that ends with it: what a PID namespace needs is undone by nothing else.
fn start(config: &GuestConfig, user: User, program: Program, streams: Streams) -> Result<Pid, Failure> {
    let (workdir, own_namespace) = (config.workdir.clone(), config.pid_namespace);
    let limits = config.ulimits.iter().filter_map(|limit| limit.limit()).collect();
    let spawn = move || {
        if own_namespace {
            // SAFETY: only the children of this thread are born there; no memory or descriptor table is taken apart.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }
                .context("make a PID namespace")?;
        }
        spawn(&workdir, user, limits, own_namespace, program, streams)
    };
    std::thread::spawn(spawn)
        .join()
        .unwrap_or_else(|_| Err("its starter panicked").context("start the command"))
}

fn spawn(
    workdir: &str,
    user: User,
    limits: Vec<(Resource, Rlimit)>,
    own_namespace: bool,
    program: Program,
    mut streams: Streams,
) -> Result<Pid, Failure> {
    let path = CString::new(program.path().as_os_str().as_bytes()).context("start the command")?;
    let mut command = Command::new(program.path());
    command.current_dir(workdir);
    streams.give(&mut command)?;
    let is_terminal = streams.is_terminal();
    let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let program = std::sync::Arc::new(program);
    let executed = program.clone();
    // SAFETY: between fork and exec only system calls are made, on values that were made before; no memory is
    // allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            if is_terminal {
                take_terminal()?;
            }
            if own_namespace {
                show_own_processes()?;
            }
            for (resource, limit) in &limits {
                rustix::process::setrlimit(*resource, *limit)?;
            }
            rustix::thread::set_thread_groups(&groups)?;
            // The child has one thread, so what holds for it holds for the process.
            rustix::thread::set_thread_gid(Gid::from_raw(user.gid))?;
            rustix::thread::set_thread_uid(Uid::from_raw(user.uid))?;
            Err(executed.execute(&path))
        });
    }
    let child = command.spawn().map_err(|error| program.failure(&error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or("it has no pid").context("start the command")
}

/// Gives a process that is the first of its PID namespace a /proc of that. Allocates nothing.
fn show_own_processes() -> rustix::io::Result<()> {
    // SAFETY: the child has one thread, and no memory or descriptor table is taken apart.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount(c"proc", c"/proc", c"proc", MountFlags::empty(), None)
}

/// Reaps whatever ends, until it is the command.
fn wait(child: Pid) -> Status {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Status::Exited { code },
                    (None, signal) => Status::Signaled { signal: signal.unwrap_or(0) },
                };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Status::Failed { code: 125, message: format!("the command was lost: {error}") };
            }
        }
    }
}
