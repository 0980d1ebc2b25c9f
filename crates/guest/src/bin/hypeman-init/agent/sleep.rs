//! Before and after a sleep: while the guest's memory is saved, and until it was told what it has
//! missed, nothing runs but the agent. Programs are frozen by cgroups (version 2); where there are
//! none, it is told while it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hypeman_agent::protocol::Slept;
use rustix::time::{ClockId, Timespec};
use tokio::time::{Instant, sleep};

use super::session::{below, cgroups};
use crate::{identity, network};

/// Group of processes that belong to no other, while they are frozen.
const STILL: &str = "hypeman.still";

/// Timeout until all are frozen. A process that waits for a disk cannot be yet.
const STOPPING: Duration = Duration::from_millis(500);

/// Interval for polling whether they do.
const LOOK: Duration = Duration::from_millis(1);

/// Frozen processes.
pub(crate) struct Frozen {
    root: &'static Path,
    groups: Vec<PathBuf>,
}

impl Frozen {
    /// Freezes all others; `None` where the kernel cannot.
    pub(crate) async fn freeze() -> Option<Frozen> {
        let root = cgroups()?;
        let list = root.join("cgroup.procs");
        // We and the process that restarts us go to the root, which is never frozen.
        let ours = [std::process::id(), std::os::unix::process::parent_id()];
        for pid in ours.iter().filter(|pid| **pid > 1) {
            std::fs::write(&list, pid.to_string()).ok()?;
        }
        let still = root.join(STILL);
        let _ = std::fs::create_dir(&still);
        let mut frozen = Frozen { root, groups: Vec::new() };
        for pid in std::fs::read_to_string(&list).ok()?.lines() {
            let is_other = pid.parse().is_ok_and(|pid: u32| pid > 1 && !ours.contains(&pid));
            if is_other && is_of_a_program(pid) {
                let _ = std::fs::write(still.join("cgroup.procs"), pid); // it may have ended
            }
        }
        frozen.groups = groups(root).into_iter().filter(|group| state(group) == Some('0')).collect();
        for group in &frozen.groups {
            let _ = std::fs::write(group.join("cgroup.freeze"), "1");
        }
        let deadline = Instant::now() + STOPPING;
        while frozen.groups.iter().any(|group| !stands_still(group)) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        Some(frozen)
    }

    /// Lets them run.
    pub(crate) fn thaw(&self) {
        for group in &self.groups {
            let _ = std::fs::write(group.join("cgroup.freeze"), "0");
        }
        let still = self.root.join(STILL);
        for pid in std::fs::read_to_string(still.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = std::fs::write(self.root.join("cgroup.procs"), pid);
        }
        let _ = std::fs::remove_dir(still); // the next one takes it as it is
    }
}

/// Lets run what an agent before us has left standing still.
pub(crate) fn thaw_what_was_left() {
    if let Some(root) = cgroups().filter(|root| root.join(STILL).exists()) {
        Frozen { root, groups: groups(root) }.thaw();
    }
}

fn groups(root: &Path) -> Vec<PathBuf> {
    below(root).into_iter().filter(|group| group.join("cgroup.freeze").exists()).collect()
}

/// Whether a group is to be frozen, as `0` or `1`.
fn state(group: &Path) -> Option<char> {
    std::fs::read_to_string(group.join("cgroup.freeze")).ok()?.chars().next()
}

fn stands_still(group: &Path) -> bool {
    let events = std::fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
    // An empty one never says so.
    events.lines().any(|line| line == "frozen 1" || line == "populated 0")
}

/// Threads of the kernel have no program, and cannot be moved.
fn is_of_a_program(pid: &str) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Tells the guest what it has missed, and who it is.
pub(crate) async fn wake(slept: &Slept) -> std::io::Result<()> {
    let second = 1_000_000_000;
    let (seconds, rest) = (slept.unix_nanoseconds / second, slept.unix_nanoseconds % second);
    let number = |number: u64| i64::try_from(number).map_err(std::io::Error::other);
    let now = Timespec { tv_sec: number(seconds)?, tv_nsec: number(rest)? };
    rustix::time::clock_settime(ClockId::Realtime, now)?;
    identity::reseed(&slept.seed)?;
    if std::fs::read_to_string("/proc/sys/kernel/hostname").is_ok_and(|now| now.trim() != slept.hostname) {
        identity::name(&slept.hostname, slept.network.as_ref());
        identity::renew_machine_id(&slept.machine_id);
    }
    if let Some(now) = &slept.network {
        network::configure(now).await.map_err(std::io::Error::other)?;
        network::tell_again(now);
    }
    Ok(())
}
