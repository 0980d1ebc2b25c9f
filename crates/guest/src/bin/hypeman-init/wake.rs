//! After a sleep the guest's clock stands where it stood, and in a fork it has another machine's name: the host tells both.

use std::path::Path;
use std::process::{Command, Stdio};

use hypeman_guest::control::Request;
use rustix::time::{ClockId, Timespec};

use crate::{requests, root};

/// The word by which init calls itself for this.
const WORD: &str = "wake";

/// Our own program, also when its file is out of reach.
const PROGRAM: &str = "/proc/self/exe";

/// Whether this process is to do nothing but [`serve`].
pub(crate) fn requested(mut arguments: impl Iterator<Item = String>) -> bool {
    arguments.next().as_deref() == Some(WORD)
}

/// Starts a process that does this beside an init system of the image's own. Systems leave those alone that were there before
/// them; where it cannot be had, the clock stays behind.
pub(crate) fn start() {
    let mut command = Command::new(PROGRAM);
    command.arg(WORD).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.spawn();
}

/// Does what the host asks, as long as there is a port for it.
pub(crate) fn serve() {
    if let Some(port) = requests::control_port() {
        requests::serve(&port, |request| act(&request));
    }
}

/// Sets clock and name, if that is what was asked for.
pub(crate) fn act(request: &Request) {
    let Request::Wake { unix_nanoseconds, hostname } = request else { return };
    let second = 1_000_000_000;
    let (seconds, rest) = (unix_nanoseconds / second, unix_nanoseconds % second);
    if let (Ok(tv_sec), Ok(tv_nsec)) = (seconds.try_into(), rest.try_into()) {
        let _ = rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec });
    }
    if std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).is_ok_and(|now| now.trim() != hostname)
    {
        root::name(hostname);
    }
}
