//! All that a command has started, as far as it can be found: the processes of a cgroup of its own
//! (version 2), or else of its session.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::pipe::watch;
use crate::process;

/// Where cgroups of version 2 are, alone or beside those of version 1.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Ours below that.
const OURS: &str = "hypeman.exec";

/// Name of the group of processes that are not to end with us.
const LEFT: &str = "left";

/// Timeout for a command to end after it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// Interval for polling whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// Where the commands' cgroups are made.
pub(crate) struct Sessions {
    next: Cell<u64>,
}

impl Sessions {
    /// Begins, and ends the commands of an agent before us: nobody waits for them any more.
    pub(crate) fn begin() -> Sessions {
        for directory in directories() {
            if directory.file_name().is_some_and(|name| name != LEFT) {
                let _ = std::fs::write(directory.join("cgroup.kill"), "1");
            }
        }
        Sessions { next: Cell::new(u64::from(std::process::id()) << 32) }
    }

    /// One for a command; without a cgroup where none can be had.
    pub(crate) fn make(&self, is_left: bool) -> Option<PathBuf> {
        self.next.set(self.next.get() + 1);
        let name = if is_left { LEFT.to_owned() } else { format!("{:x}", self.next.get()) };
        let directory = ours()?.join(name);
        std::fs::create_dir_all(&directory).ok()?;
        Some(directory)
    }
}

/// Removes the cgroups that are empty. Not on the way to a command, which it would keep waiting.
pub(crate) fn sweep() {
    for directory in directories() {
        let _ = std::fs::remove_dir(directory);
    }
}

/// The root of the cgroups.
pub(crate) fn cgroups() -> Option<&'static Path> {
    CGROUPS.iter().map(Path::new).find(|path| path.join("cgroup.controllers").exists())
}

fn ours() -> Option<PathBuf> {
    cgroups().map(|root| root.join(OURS))
}

fn directories() -> Vec<PathBuf> {
    ours().map(|ours| below(&ours)).unwrap_or_default()
}

/// The cgroups that are directly in this one.
pub(crate) fn below(cgroup: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// File with the members of a cgroup.
pub(crate) fn list(cgroup: &Path) -> Option<OwnedFd> {
    File::options().write(true).open(cgroup.join("cgroup.procs")).ok().map(OwnedFd::from)
}

/// A command that runs, and what it has started.
pub(crate) struct Session {
    pub(crate) leader: Pid,
    pidfd: AsyncFd<OwnedFd>,
    cgroup: Option<PathBuf>,
    /// Its exit code as a shell tells it, once it has ended and was reaped.
    code: Cell<Option<i32>>,
}

impl Session {
    pub(crate) fn of(leader: Pid, cgroup: Option<PathBuf>) -> std::io::Result<Session> {
        let pidfd = rustix::process::pidfd_open(leader, PidfdFlags::empty())?;
        Ok(Session { leader, pidfd: watch(pidfd, Interest::READABLE)?, cgroup, code: Cell::new(None) })
    }

    /// Waits for its end; its exit code as a shell tells it.
    pub(crate) async fn ended(&self) -> std::io::Result<i32> {
        loop {
            let mut ready = self.pidfd.readable().await?;
            self.reap()?;
            match self.code.get() {
                Some(code) => return Ok(code),
                None => ready.clear_ready(),
            }
        }
    }

    fn reap(&self) -> std::io::Result<()> {
        if self.code.get().is_none() {
            let process = WaitId::PidFd(self.pidfd.get_ref().as_fd());
            let status = rustix::process::waitid(process, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
            let signal = |status: &rustix::process::WaitIdStatus| {
                status.terminating_signal().map(|signal| 128 + signal)
            };
            self.code
                .set(status.map(|status| status.exit_status().or_else(|| signal(&status)).unwrap_or(125)));
        }
        Ok(())
    }

    /// Ends it with all that it has started: asks for it, and then no more.
    pub(crate) async fn end(&self, ask: Signal) {
        self.signal(ask);
        let deadline = Instant::now() + GRACE;
        while !self.processes().is_empty() {
            if Instant::now() > deadline {
                self.signal(Signal::KILL);
            }
            let _ = self.reap();
            tokio::time::sleep(LOOK).await;
        }
        let _ = self.reap();
        if let Some(cgroup) = &self.cgroup {
            let _ = std::fs::remove_dir(cgroup);
        }
    }

    fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = process::send(pid, signal.as_raw()); // it may have ended
            let _ = process::send(pid, Signal::CONT.as_raw()); // one that stands still hears nothing
        }
    }

    /// Those that live. Zombies are not among them: they have ended, and their parents may take
    /// their time.
    fn processes(&self) -> Vec<i32> {
        let alive = |pid: &i32| stat(*pid).is_some_and(|stat| stat.state != 'Z');
        if let Some(cgroup) = &self.cgroup
            && let Ok(list) = std::fs::read_to_string(cgroup.join("cgroup.procs"))
        {
            return list.lines().filter_map(|pid| pid.parse().ok()).filter(alive).collect();
        }
        let leader = self.leader.as_raw_nonzero().get();
        all()
            .into_iter()
            .filter(|pid| stat(*pid).is_some_and(|stat| stat.session == leader && stat.state != 'Z'))
            .collect()
    }
}

/// Fields of a process's status (proc_pid_stat(5)), as far as they are used.
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) session: i32,
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, session: fields.nth(2)?.parse().ok()? })
}

/// The numbers of all processes.
pub(crate) fn all() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
