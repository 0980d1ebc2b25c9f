//! From a command that was found to a process: as whom, where and with what it runs.
#![allow(unsafe_code)] // what happens between fork and exec

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::program::Program;
use crate::report::{Context, Failure};
use crate::user::User;

/// A command that is about to run.
pub(crate) struct Launch {
    pub(crate) program: Program,
    pub(crate) user: User,
    pub(crate) workdir: String,
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    pub(crate) streams: [Stdio; 3],
    /// Whether its input is to be its terminal.
    pub(crate) takes_terminal: bool,
    pub(crate) namespace: Namespace,
    /// The list of the cgroup that it belongs to.
    pub(crate) cgroup: Option<OwnedFd>,
}

/// In which PID namespace, with a /proc of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// Ours.
    Ours,
    /// A new one, whose first process it is.
    New,
    /// The environment of another process.
    Of(Pid),
}

impl Launch {
    /// Starts it. It leads a session of its own.
    pub(crate) fn start(self) -> Result<Pid, Failure> {
        if self.namespace == Namespace::Ours {
            return self.spawn();
        }
        // In a thread that ends with it: what a PID namespace needs is undone by nothing else.
        std::thread::spawn(move || {
            enter(self.namespace).context("use a PID namespace")?;
            self.spawn()
        })
        .join()
        .unwrap_or_else(|_| Err("its starter panicked").context("start the command"))
    }

    fn spawn(self) -> Result<Pid, Failure> {
        let path = CString::new(self.program.path().as_os_str().as_bytes()).context("start the command")?;
        let workdir = CString::new(self.workdir.as_str()).context("enter the working directory")?;
        let mounts = match self.namespace {
            Namespace::Of(process) => Some(open_namespace(process, "mnt").context("use a namespace")?),
            Namespace::Ours | Namespace::New => None,
        };
        let mut command = Command::new(self.program.path());
        let [stdin, stdout, stderr] = self.streams;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let Launch { user, limits, takes_terminal, namespace, cgroup, .. } = self;
        let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let our_uid = rustix::process::geteuid();
        // Only root can become another user.
        let is_already_it = !our_uid.is_root() && our_uid.as_raw() == user.uid;
        let program = Arc::new(self.program);
        let executed = program.clone();
        // SAFETY: between fork and exec only system calls are made, on values that were made
        // before; no memory is allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || {
                if let Some(list) = &cgroup {
                    let _ = rustix::io::write(list, b"0"); // without it, it is ended as a group of processes
                }
                be_mortal();
                hear_all_signals();
                rustix::process::setsid()?;
                if takes_terminal {
                    rustix::process::ioctl_tiocsctty(std::io::stdin().as_fd())?;
                }
                if let Some(mounts) = &mounts {
                    rustix::thread::move_into_link_name_space(
                        mounts.as_fd(),
                        Some(LinkNameSpaceType::Mount),
                    )?;
                }
                if namespace == Namespace::New {
                    show_own_processes()?;
                }
                rustix::process::chdir(&workdir)?;
                for (resource, limit) in &limits {
                    rustix::process::setrlimit(*resource, *limit)?;
                }
                if !is_already_it {
                    rustix::thread::set_thread_groups(&groups)?;
                    // The child has one thread, so what holds for it holds for the process.
                    rustix::thread::set_thread_gid(Gid::from_raw(user.gid))?;
                    rustix::thread::set_thread_uid(Uid::from_raw(user.uid))?;
                }
                Err(executed.execute(&path))
            });
        }
        let child = command.spawn().map_err(|error| match std::fs::metadata(&self.workdir) {
            Err(cause) => Failure { code: 127, message: format!("{}: {cause}", self.workdir) },
            Ok(directory) if !directory.is_dir() => {
                Failure { code: 126, message: format!("{}: it is no directory", self.workdir) }
            }
            Ok(_) => program.failure(&error),
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or("it has no pid").context("start the command")
    }
}

/// Has the children of this thread born elsewhere.
fn enter(namespace: Namespace) -> rustix::io::Result<()> {
    match namespace {
        Namespace::Ours => Ok(()),
        // SAFETY: only the children of this thread are born there; no memory or descriptor table is
        // taken apart.
        Namespace::New => unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) },
        Namespace::Of(process) => {
            let namespace = open_namespace(process, "pid")?;
            // This thread's children are born there; nothing else changes.
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID))
        }
    }
}

fn open_namespace(process: Pid, kind: &str) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/{}/ns/{kind}", process.as_raw_nonzero());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Signals that glibc keeps to itself (`__SIGRTMIN`, nptl/internaltypes.h): posix_spawn(3), by
/// which our agent is started, has them ignored, and sigaction(2) of the library refuses to change
/// that.
const OF_GLIBC: [libc::c_long; 2] = [32, 33];

/// Gives all signals the meaning that a program expects. Between fork and exec.
fn hear_all_signals() {
    /// `struct sigaction` of the kernel's, on x86-64: handler, flags, restorer, mask. All zeros are
    /// the default.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in OF_GLIBC {
        // SAFETY: rt_sigaction(2) reads 32 bytes, which are there, and writes nothing.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), 8_usize)
        };
    }
}

/// Clears the agent's protection from the OOM killer for the processes that it starts
/// (proc_pid_oom_score_adj(5)).
fn be_mortal() {
    if let Ok(score) =
        rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    {
        let _ = rustix::io::write(score, b"0");
    }
}

/// Gives a process that is the first of its PID namespace a /proc of that. Allocates nothing.
fn show_own_processes() -> rustix::io::Result<()> {
    // SAFETY: the child has one thread, and no memory or descriptor table is taken apart.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount(c"proc", c"/proc", c"proc", MountFlags::empty(), None)
}

/// Sends a process a signal by any number.
pub(crate) fn send(process: i32, signal: i32) -> std::io::Result<()> {
    // SAFETY: kill(2) touches no memory. Not rustix's, which knows no real-time signals.
    match unsafe { libc::kill(process, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
