//! Processes told apart beyond their pid, which the system uses again.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process of this boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (`/proc/PID/stat`, field 22; proc(5)).
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this pid now; `None` when there is none or it is a zombie.
    #[must_use]
    pub fn find(pid: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
        Some(Process { pid, start_ticks: start_ticks(&stat)? })
    }

    /// Whether this very process still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Process::find(self.pid) == Some(self)
    }

    /// CPU time that it has used, in clock ticks (`/proc/PID/stat`, fields 14 and 15; proc(5)); 0
    /// when it is gone.
    #[must_use]
    pub fn cpu_ticks(self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    /// Sends a signal to this very process, never to one that got its pid later. A process that is
    /// gone is no error.
    ///
    /// # Errors
    /// When we may not signal it.
    pub fn signal(self, signal: rustix::process::Signal) -> std::io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) else {
            return Ok(());
        };
        let flags = rustix::process::PidfdFlags::empty();
        let handle = match rustix::process::pidfd_open(pid, flags) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Looked at after the handle was taken: from here on the handle is this process or nothing.
        if !self.is_alive() {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended, at most `timeout`. Returns whether it has.
    #[must_use]
    pub fn wait_gone(self, timeout: std::time::Duration) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) else {
            return true;
        };
        let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            return !self.is_alive();
        };
        if !self.is_alive() {
            return true;
        }
        // A pidfd becomes readable when its process ends (pidfd_open(2)).
        let mut polled = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec::try_from(timeout).ok();
        let _ = rustix::event::poll(&mut polled, timeout.as_ref());
        !self.is_alive()
    }
}

/// Field 22 of a stat line. The command in field 2 may hold spaces and parentheses, so the line is
/// read from its last `)`. A zombie (`Z`) has ended and gives `None`.
fn start_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// The identity of this boot of the host: pids of another boot mean nothing.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_ticks(&format!("7 (a) b) (c) {rest}")), Some(4711));
        assert_eq!(start_ticks("7 (a) Z 1 2"), None);
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn a_child_is_alive_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::find(child.id()).unwrap();
        assert!(process.is_alive());
        process.signal(rustix::process::Signal::KILL).unwrap();
        assert!(process.wait_gone(std::time::Duration::from_secs(60)));
        child.wait().unwrap();
        assert!(!process.is_alive());
        process.signal(rustix::process::Signal::KILL).unwrap();
    }
}
