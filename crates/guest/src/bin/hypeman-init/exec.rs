//! Exec mode: the command is our child, we reap and report.
#![allow(unsafe_code)] // what happens between fork and exec

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::Command;

use hypeman_guest::config::GuestConfig;
use hypeman_guest::status::Status;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::report::{self, Context, Failure};
use crate::user::{self, User};
use crate::{console, requests};

const SIGTERM: i32 = 15;

/// Runs the command to its end, and reports how it ended.
pub(crate) fn run(config: &GuestConfig, status: &File) -> Result<(), Failure> {
    let user = user::resolve(&config.user)?;
    std::fs::create_dir_all(&config.workdir)
        .context(&format!("make the working directory {}", config.workdir))?;
    let terminal = console::open()?;
    console::make_exact(&terminal);
    let child = spawn(config, &user, &terminal)?;
    report::write(status, &Status::Running);
    requests::listen(child, config.stop_signal.unwrap_or(SIGTERM));
    let end = wait(child);
    // What it has left running goes as it would with a container. Group 1 is kill(2)'s pid -1: everyone but us.
    let _ = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
    report::write(status, &end);
    Ok(())
}

fn spawn(config: &GuestConfig, user: &User, terminal: &File) -> Result<Pid, Failure> {
    let [program, arguments @ ..] = &config.argv[..] else {
        return Err(Failure { code: 125, message: "there is no command to run".to_owned() });
    };
    let duplicate = || terminal.try_clone().context("open its console");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", &user.home)
        .envs(&config.env)
        .current_dir(&config.workdir);
    command.stdin(duplicate()?).stdout(duplicate()?).stderr(duplicate()?);
    let user = user.clone();
    let groups: Vec<_> = user.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    // SAFETY: between fork and exec only system calls are made, on values that were made before; no memory is
    // allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            rustix::thread::set_thread_groups(&groups)?;
            // The child has one thread, so what holds for it holds for the process.
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(user.gid))?;
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(user.uid))?;
            Ok(())
        });
    }
    let child = command.spawn().map_err(|error| not_started(program, &error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or("it has no pid").context("start the command")
}

/// docker's codes for a command that cannot be started.
fn not_started(program: &str, error: &std::io::Error) -> Failure {
    let (code, why) = match error.kind() {
        ErrorKind::NotFound => (127, "command not found".to_owned()),
        _ => (126, error.to_string()),
    };
    Failure { code, message: format!("{program}: {why}") }
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
