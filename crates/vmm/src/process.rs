//! A VMM's process, held by a pidfd: one that we have started and one that we have taken over are the same to us.
#![allow(unsafe_code)] // pre_exec(3)'s rules, and AsyncFd's

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use hypeman_files::Lock;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::OnceCell;

/// Lowest number for a descriptor that the VMM only holds; those below are what drivers hand over.
const HELD_FD: i32 = 16;

/// How a VMM's process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmmExit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody can tell: it was not our child.
    Unknown,
}

/// A VMM's process. Dropping this leaves it running.
#[derive(Debug)]
pub struct VmmProcess {
    pid: Pid,
    handle: AsyncFd<OwnedFd>,
    exit: OnceCell<VmmExit>,
}

impl VmmProcess {
    /// Starts a VMM that holds the lock `alive` as long as it lives, and in whose file its pid stands before its program runs.
    /// So from its first moment to its last others can tell that there is a VMM and which, whatever becomes of us. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: Command, alive: Lock) -> Result<VmmProcess> {
        VmmProcess::spawn(command, alive, Vec::new())
    }

    /// As [`VmmProcess::start`], with what else is to live as long as the VMM does. Its numbers there come back with the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_holding<const N: usize>(
        command: Command,
        alive: Lock,
        held: [BorrowedFd<'_>; N],
    ) -> Result<(VmmProcess, [i32; N])> {
        let held = held.iter().map(|held| Ok(rustix::io::fcntl_dupfd_cloexec(held, HELD_FD)?));
        let held = held.collect::<Result<Vec<OwnedFd>>>()?;
        let mut numbers = [-1; N];
        numbers.iter_mut().zip(&held).for_each(|(number, held)| *number = held.as_raw_fd());
        Ok((VmmProcess::spawn(command, alive, held)?, numbers))
    }

    fn spawn(mut command: Command, alive: Lock, held: Vec<OwnedFd>) -> Result<VmmProcess> {
        let lock = rustix::io::fcntl_dupfd_cloexec(alive.file(), HELD_FD)?;
        drop(alive); // a lock is let go of with the last of its descriptors (flock(2))
        let write_pid = move || {
            let mut text = [0; 20];
            let pid = rustix::process::getpid().as_raw_nonzero().get();
            let text = decimal(pid.unsigned_abs(), &mut text);
            // Its first line at once: whoever reads it finds the old one or the new one.
            rustix::io::pwrite(&lock, text, 0)?;
            rustix::fs::ftruncate(&lock, text.len() as u64)?;
            for held in &held {
                rustix::io::fcntl_setfd(held, FdFlags::empty())?;
            }
            Ok(rustix::io::fcntl_setfd(&lock, FdFlags::empty())?)
        };
        // SAFETY: the closure runs in a forked child. It makes some system calls on descriptors that it owns, and neither
        // allocates nor takes a lock nor panics (async-signal-safety, signal-safety(7)).
        unsafe { command.pre_exec(write_pid) };
        let child = command.spawn()?;
        // The standard library waits for no child by itself, so until we do the pid is this process's.
        VmmProcess::hold(child.id())
    }

    /// A descriptor that a VMM holds, opened anew: of a memfd or another file.
    ///
    /// # Errors
    /// When there is no such process or descriptor, or we may not look into the process (proc_pid_fd(5)).
    pub fn open_held(&self, number: i32) -> Result<File> {
        File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/fd/{number}", self.pid.as_raw_nonzero()))
    }

    /// A descriptor that a VMM holds, whatever it is of.
    ///
    /// # Errors
    /// As [`VmmProcess::open_held`], and when we may not trace the process (ptrace(2), `PTRACE_MODE_ATTACH_REALCREDS`).
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
        // SAFETY: an `OwnedFd` gives the same descriptor each time it is asked, and has it open as long as it lives.
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

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn its_lock_is_held_and_its_pid_is_told_until_it_has_ended() {
        run(async {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("vmm.pid");
            let process = VmmProcess::start(shell("exec sleep 1000"), Lock::acquire(&path).unwrap()).unwrap();
            let pid = std::fs::read_to_string(&path).unwrap();
            assert_eq!(pid, format!("{}\n", process.pid().as_raw_nonzero()));
            assert!(hypeman_files::is_held(&path).unwrap());
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
            let lock = || Lock::acquire(&scratch.path().join("vmm.pid")).unwrap();
            let process = VmmProcess::start(shell("exit 3"), lock()).unwrap();
            assert_eq!(process.ended().await, VmmExit::Code(3));
            // Its parent, a shell, ends first: then it is nobody's whom we could wait for.
            let output = shell("sleep 1000 >/dev/null 2>&1 & echo $!").output().unwrap();
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
            let lock = Lock::acquire(&scratch.path().join("vmm.pid")).unwrap();
            let held = File::create(scratch.path().join("held")).unwrap();
            let (process, [number]) =
                VmmProcess::start_holding(shell("exec sleep 1000"), lock, [held.as_fd()]).unwrap();
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
