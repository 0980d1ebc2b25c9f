//! A VMM's process, held by a pidfd: one that we have started and one that we have taken over are
//! the same to us.
#![allow(unsafe_code)] // pre_exec(3)'s rules, and AsyncFd's

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use hypeman_confine::{Confinement, Given};
use hypeman_files::Existing;
use hypeman_record::descriptors;
use hypeman_record::end::VmmExit;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::unix::AsyncFd;
use tokio::sync::OnceCell;

/// A VMM to be started.
#[derive(Debug)]
pub struct Start {
    /// Its program with its arguments.
    pub command: Command,
    /// The descriptors that it gets.
    descriptors: Vec<FdMapping>,
    /// The files of its VM, which it gets as well.
    pub given: Vec<Given>,
    /// The other end of its VM's interface.
    pub network: Option<OwnedFd>,
    /// Descriptor that stays open as long as it lives.
    pub kept: Option<OwnedFd>,
    /// Its sandbox.
    pub confinement: Option<Confinement>,
}

impl Start {
    /// One without confinement.
    #[must_use]
    pub fn new(command: Command, descriptors: Vec<FdMapping>, given: Vec<Given>) -> Start {
        Start { command, descriptors, given, network: None, kept: None, confinement: None }
    }
}

/// A VMM's process. Dropping this leaves it running.
#[derive(Debug)]
pub struct VmmProcess {
    pid: Pid,
    handle: AsyncFd<OwnedFd>,
    exit: OnceCell<VmmExit>,
}

impl VmmProcess {
    /// Starts a VMM that holds a lock on the file `pid_file` as long as it lives, and in which its
    /// pid stands before its program runs. So from its first moment to its last others can tell
    /// that there is a VMM and which, whatever becomes of us. What else is to live as long as the
    /// VMM does it holds as well, by numbers that come back with the process. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// When a VMM holds the lock, or this one cannot be started.
    pub fn start<const N: usize>(
        start: Start,
        pid_file: &Path,
        held: [BorrowedFd<'_>; N],
    ) -> Result<(VmmProcess, [i32; N])> {
        let Start { mut command, mut descriptors, given, network, kept, confinement } = start;
        descriptors.extend(network.map(|parent_fd| FdMapping { parent_fd, child_fd: descriptors::NETWORK }));
        descriptors.extend(kept.map(|parent_fd| FdMapping { parent_fd, child_fd: descriptors::KEPT }));
        let (mut child, numbered) =
            confinement.map(|confinement| (confinement.child, confinement.descriptors)).unzip();
        // A descriptor of the sandbox replaces the file of the same number.
        let mut numbers: BTreeMap<i32, OwnedFd> =
            given.into_iter().map(|given| (given.number, given.file)).collect();
        numbers.extend(numbered.into_iter().flatten().map(|(descriptor, number)| (number, descriptor)));
        descriptors
            .extend(numbers.into_iter().map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }));
        let (pid_writer, lock) = lock(pid_file)?;
        descriptors.push(FdMapping { parent_fd: pid_writer, child_fd: descriptors::PID });
        descriptors.push(FdMapping { parent_fd: lock, child_fd: descriptors::LOCK });
        let mut numbers = [-1; N];
        for (child_fd, (number, held)) in (descriptors::HELD..).zip(numbers.iter_mut().zip(held)) {
            descriptors.push(FdMapping { parent_fd: held.try_clone_to_owned()?, child_fd });
            *number = child_fd;
        }
        let last = descriptors.iter().map(|mapping| mapping.child_fd).max().unwrap_or(descriptors::LOCK);
        command.fd_mappings(descriptors).map_err(Error::other)?;
        let write_pid = move || {
            // SAFETY: the mapping of descriptors, which is done first, has just put it there, and
            // nobody else knows of it.
            let pid_file = unsafe { OwnedFd::from_raw_fd(descriptors::PID) };
            let mut text = [0; 20];
            let pid = rustix::process::getpid().as_raw_nonzero().get();
            let text = decimal(pid.unsigned_abs(), &mut text);
            // Its first line at once: a reader finds the old one or the new one.
            rustix::io::pwrite(&pid_file, text, 0)?;
            rustix::fs::ftruncate(&pid_file, text.len() as u64)?;
            match &mut child {
                // SAFETY: the same holds of the descriptors of the confinement.
                Some(child) => unsafe { child.enter() },
                None => Ok(()),
            }
        };
        // SAFETY: the closure runs in a forked child. It makes some system calls on descriptors
        // that it owns, and neither allocates nor takes a lock nor panics (async-signal-safety,
        // signal-safety(7)).
        unsafe { command.pre_exec(write_pid) };
        let child = hypeman_process::spawn(&mut command, last)?;
        // The standard library waits for no child by itself, so until we do the pid is this
        // process's.
        Ok((VmmProcess::hold(child.id())?, numbers))
    }

    /// A descriptor that a VMM holds, opened anew: of a memfd or another file.
    ///
    /// # Errors
    /// When there is no such process or descriptor, or we may not look into the process
    /// (proc_pid_fd(5)).
    pub fn open_held(&self, number: i32) -> Result<File> {
        File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/fd/{number}", self.pid.as_raw_nonzero()))
    }

    /// A descriptor that a VMM holds, whatever it is of.
    ///
    /// # Errors
    /// As [`VmmProcess::open_held`], and when we may not trace the process (ptrace(2),
    /// `PTRACE_MODE_ATTACH_REALCREDS`).
    pub fn borrow_held(&self, number: i32) -> Result<OwnedFd> {
        let flags = PidfdGetfdFlags::empty();
        Ok(rustix::process::pidfd_getfd(self.handle.get_ref(), number, flags)?)
    }

    /// Takes over the VMM that another process has started.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn adopt(pid: u32) -> Result<VmmProcess> {
        VmmProcess::hold(pid)
    }

    fn hold(pid: u32) -> Result<VmmProcess> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` gives the same descriptor each time it is asked, and has it open as
        // long as it lives.
        let handle = unsafe { AsyncFd::register(handle) }.map_err(Error::from)?;
        Ok(VmmProcess { pid, handle, exit: OnceCell::new() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has ended, and tells how; again and again, if asked so.
    pub async fn ended(&self) -> VmmExit {
        let wait = async {
            loop {
                match rustix::process::waitid(
                    WaitId::PidFd(self.handle.as_fd()),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                ) {
                    Ok(Some(status)) => {
                        let code = status.exit_status().map(VmmExit::Code);
                        let signal = || status.terminating_signal().map(VmmExit::Signal);
                        return code.or_else(signal).unwrap_or(VmmExit::Unknown);
                    }
                    Err(error) if error != Errno::AGAIN && self.has_ended() => return VmmExit::Unknown,
                    _ => {}
                }
                // A pidfd becomes readable when its process ends (pidfd_open(2)).
                match self.handle.readable().await {
                    Ok(mut ready) if !self.has_ended() => ready.clear_ready(),
                    _ => {}
                }
            }
        };
        *self.exit.get_or_init(|| wait).await
    }

    /// Ends it at once. One that has ended already is left as it is.
    ///
    /// # Errors
    /// When we may not.
    pub fn kill(&self) -> Result<()> {
        match rustix::process::pidfd_send_signal(self.handle.get_ref(), Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it has ended, also when nobody has waited for it.
    fn has_ended(&self) -> bool {
        let mut polled = [rustix::event::PollFd::new(&self.handle, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// A file to write the pid to, and the same file to be locked as long as its holder lives. The VMM
/// holds the one that it cannot write.
fn lock(path: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let mut options = File::options();
    let writer = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match hypeman_files::Lock::try_acquire_existing(path).map_err(Error::other)? {
        Existing::Taken(lock) => Ok((writer.into(), lock.into())),
        Existing::Held | Existing::Missing => Err(Error::other("a VMM of this instance still runs")),
    }
}

/// A number in decimal digits with a line's end, without allocating.
fn decimal(mut number: u32, buffer: &mut [u8; 20]) -> &[u8] {
    let mut begin = buffer.len() - 1;
    buffer[begin] = b'\n';
    loop {
        begin -= 1;
        buffer[begin] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return &buffer[begin..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn shell(script: &str) -> Start {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Start::new(command, Vec::new(), Vec::new())
    }

    #[test]
    fn its_lock_is_held_and_its_pid_is_told_until_it_has_ended() {
        run(async {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("vmm.pid");
            let process = VmmProcess::start(shell("exec sleep 1000"), &path, []).unwrap().0;
            let pid = std::fs::read_to_string(&path).unwrap();
            assert_eq!(pid, format!("{}\n", process.pid().as_raw_nonzero()));
            assert!(hypeman_files::is_held(&path).unwrap());
            let refused = VmmProcess::start(shell("exit 0"), &path, []).unwrap_err();
            assert!(refused.to_string().contains("still runs"));
            assert!(
                process.open_held(descriptors::LOCK).is_ok()
                    && std::fs::read_link(format!(
                        "/proc/{}/fd/{}",
                        process.pid().as_raw_nonzero(),
                        descriptors::PID
                    ))
                    .is_err()
            );
            process.kill().unwrap();
            assert_eq!(process.ended().await, VmmExit::Signal(9));
            assert_eq!(process.ended().await, VmmExit::Signal(9), "told again");
            assert!(!hypeman_files::is_held(&path).unwrap());
            process.kill().unwrap();
        });
    }

    #[test]
    fn a_code_is_told_and_of_a_process_that_is_not_ours_only_the_end() {
        run(async {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("vmm.pid");
            let (process, []) = VmmProcess::start(shell("exit 3"), &path, []).unwrap();
            assert_eq!(process.ended().await, VmmExit::Code(3));
            // Its parent, a shell, ends first: then it is nobody's whom we could wait for.
            let output = shell("sleep 1000 >/dev/null 2>&1 & echo $!").command.output().unwrap();
            let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            let adopted = VmmProcess::adopt(pid).unwrap();
            adopted.kill().unwrap();
            assert_eq!(adopted.ended().await, VmmExit::Unknown);
        });
    }

    #[test]
    fn what_it_holds_can_be_had_from_it() {
        run(async {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("vmm.pid");
            let held = File::create(scratch.path().join("held")).unwrap();
            let (process, [number]) =
                VmmProcess::start(shell("exec sleep 1000"), &path, [held.as_fd()]).unwrap();
            drop(held);
            std::fs::remove_file(scratch.path().join("held")).unwrap();
            std::io::Write::write_all(&mut process.open_held(number).unwrap(), b"kept").unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut process.open_held(number).unwrap(), &mut text).unwrap();
            assert_eq!(text, "kept");
            assert_eq!(File::from(process.borrow_held(number).unwrap()).metadata().unwrap().len(), 4);
            process.kill().unwrap();
        });
    }

    #[test]
    fn numbers() {
        let mut buffer = [0; 20];
        assert_eq!(decimal(0, &mut buffer), b"0\n");
        assert_eq!(decimal(u32::MAX, &mut buffer), b"4294967295\n");
    }
}
