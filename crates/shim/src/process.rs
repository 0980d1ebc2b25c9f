//! The shim as a process: its session, its directory, its locks and its descriptors.
#![allow(unsafe_code)] // a descriptor that is handed over by its number

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use hypeman_files::Lock;
use hypeman_record::names;
use hypeman_record::protocol::{self, Started};
use rustix::io::FdFlags;

use crate::error::{Result, StartContext};

/// Socket and lock that make this process the shim of an instance.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Where to answer.
    pub(crate) listener: UnixListener,
    /// Held as long as the process lives: others see by it that there is a shim.
    pub(crate) alive: Lock,
}

/// Leaves the starter's session, makes `directory` the current one and takes the shim's lock.
pub(crate) fn become_shim(directory: &Path) -> Result<Identity> {
    // Fails only for a leader of a process group, which a freshly started child is not; then the
    // session is ours anyway.
    let _ = rustix::process::setsid();
    hypeman_files::raise_descriptor_limit(); // not the console's, when strangers connect to published ports
    std::env::set_current_dir(directory).start(&format!("enter {}", directory.display()))?;
    let listener = take_listener()?;
    let alive = inherited_lock().start("take the lock of shim.pid")?;
    // Its first line at once: a reader finds the old one or the new one.
    let pid = format!("{}\n", std::process::id());
    let written =
        alive.file().write_all_at(pid.as_bytes(), 0).and_then(|()| alive.file().set_len(pid.len() as u64));
    written.start("write shim.pid")?;
    Ok(Identity { listener, alive })
}

/// Takes the lock of shim.pid, which our starter has handed over: so there was no moment in which
/// nobody held it.
fn inherited_lock() -> std::io::Result<Lock> {
    // Looked at before it is taken: it may be closed, or somebody else's in this process.
    let ours = std::fs::metadata(format!("/proc/self/fd/{}", names::SHIM_LOCK_FD));
    let expected = std::fs::metadata(names::SHIM_PID)?;
    if ours.is_ok_and(|ours| (ours.dev(), ours.ino()) == (expected.dev(), expected.ino())) {
        // SAFETY: it is open, as it was just found, and on the lock's file, which nothing in this
        // process has opened by itself: the process has just begun, has one thread, and takes each
        // inherited descriptor once.
        let file = unsafe { File::from_raw_fd(names::SHIM_LOCK_FD) };
        rustix::io::fcntl_setfd(&file, FdFlags::CLOEXEC)?; // the VMM is not to hold it
        return Lock::inherit(file);
    }
    Err(std::io::Error::other("it was not handed over; the shim is started by `hypeman start`, not by hand"))
}

/// Takes the socket from standard input, and leaves /dev/null there.
fn take_listener() -> Result<UnixListener> {
    let socket: OwnedFd =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).start("take the socket")?;
    if rustix::net::sockopt::socket_acceptconn(&socket) != Ok(true) {
        return Err(
            "standard input is no listening socket; the shim is started by `hypeman start`, not by hand",
        )
        .start("take the socket");
    }
    let null = std::fs::File::open("/dev/null").start("open /dev/null")?;
    rustix::stdio::dup2_stdin(null).start("let go of standard input")?;
    Ok(UnixListener::from(socket))
}

/// Lets go of the pipe to our starter, so that it sees the end of what we have to say.
pub(crate) fn close_stdout() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// Reports to our starter, which may be gone.
pub(crate) fn say(word: &Started) {
    if let Ok(line) = protocol::line(word) {
        let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
    }
}
