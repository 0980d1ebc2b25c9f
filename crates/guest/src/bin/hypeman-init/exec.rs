//! Exec mode: the command is our child, we reap and report.

use std::fs::File;

use hypeman_record::guest::config::GuestConfig;
use hypeman_record::guest::status::Status;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::process::{Launch, Namespace};
use crate::program::Program;
use crate::report::{self, Context, Failure};
use crate::streams::Streams;
use crate::{agent, console, power, user};

const SIGTERM: i32 = 15;

/// Runs the command to its end, and reports how it ended.
pub(crate) fn run(config: &GuestConfig, status: &File) -> Result<(), Failure> {
    let user = user::resolve(&config.user)?;
    std::fs::create_dir_all(&config.workdir)
        .context(&format!("make the working directory {}", config.workdir))?;
    let environment = config.env.clone();
    let program = Program::find(&config.argv, environment, &config.workdir, &user.home, config.stdio.tty)?;
    let terminal = console::open()?;
    let (streams, printed) = Streams::open(config.stdio, terminal, &user)?;
    let takes_terminal = streams.is_terminal();
    let launch = Launch {
        program,
        user,
        workdir: config.workdir.clone(),
        limits: config.ulimits.iter().filter_map(|limit| limit.limit()).collect(),
        streams: streams.into_stdio()?,
        takes_terminal,
        namespace: if config.pid_namespace { Namespace::New } else { Namespace::Ours },
        cgroup: None,
    };
    let child = launch.start()?;
    let output = printed.copy();
    // First, because a caller that sees it run may ask for its end.
    power::watch_buttons(child, config.stop_signal.unwrap_or(SIGTERM));
    let agent = agent::keep_beside(config, child);
    report::write(status, &Status::Running);
    let end = wait(child);
    agent.leave();
    // Processes that the program leaves running end, as in a container. Group 1 is kill(2)'s pid
    // -1: everyone but us.
    let _ = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
    if let Some(output) = output {
        output.finish();
    }
    report::write(status, &end);
    Ok(())
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
