//! Starts a program that gets descriptors by their numbers.
#![allow(unsafe_code)] // unshare(2) of the descriptors

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Starts a command that puts descriptors at numbers up to `last` before its program runs. It must
/// not ask for pipes: they would be closed.
///
/// The standard library has a pipe of its own to the child, by which it hears that the program
/// runs, or why not. A command that puts a descriptor at that pipe's number counts as started
/// before it is, and as started even if it fails. Here the pipe gets a number above `last`.
///
/// # Errors
/// When the command cannot be started, its program included.
pub fn spawn(command: &mut Command, last: RawFd) -> Result<Child> {
    let spawn = || {
        // SAFETY: the thread ends with this function and has its own copy of each descriptor until
        // then. None of its descriptors is used by another thread, and none that is opened here
        // leaves: a child without pipes has none.
        unsafe { unshare_unsafe(UnshareFlags::FILES) }?;
        let _taken = take_all_to(last)?;
        command.spawn()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("spawn".to_owned()).spawn_scoped(scope, spawn)?;
        thread.join().unwrap_or_else(|_| Err(Error::other("the thread that starts it has panicked")))
    })
}

/// Takes each number up to this one that is free.
fn take_all_to(last: RawFd) -> Result<Vec<File>> {
    let mut taken = Vec::new();
    loop {
        let file = File::open("/dev/null")?;
        if file.as_raw_fd() > last {
            return Ok(taken);
        }
        taken.push(file);
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use command_fds::{CommandFdExt, FdMapping};

    use super::*;

    /// More than the tests of this crate have open, so that one number is that of the standard
    /// library's pipe.
    const LAST: RawFd = 200;

    /// A command that puts this descriptor at each number up to [`LAST`].
    fn command(program: &str, file: &File) -> Command {
        let high = || rustix::io::fcntl_dupfd_cloexec(file, LAST + 1).unwrap();
        let mapping = |child_fd| FdMapping { parent_fd: high(), child_fd };
        let mut command = Command::new(program);
        command.fd_mappings((3..=LAST).map(mapping).collect()).unwrap();
        command
    }

    #[test]
    fn a_program_that_cannot_run_is_told_whatever_numbers_its_descriptors_have() {
        let file = tempfile::tempfile().unwrap();
        let error = spawn(&mut command("/nonexistent", &file), LAST).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(file.metadata().unwrap().len(), 0, "nothing is written to what it gets");
    }

    #[test]
    fn a_program_has_its_descriptors_once_it_counts_as_started() {
        let file = tempfile::tempfile().unwrap();
        let mut child = spawn(command("sleep", &file).arg("1000"), LAST).unwrap();
        let held = File::open(format!("/proc/{}/fd/{LAST}", child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(held.is_ok(), "{held:?}");
    }
}
