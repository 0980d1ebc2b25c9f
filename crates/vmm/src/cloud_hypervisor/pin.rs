//! Keeps a guest from printing before anybody listens.
//!
//! Releases before v53.0 drop what the guest prints until the thread `serial-manager` has accepted
//! the client that waits in the backlog. `vm.boot` starts that thread and, a few milliseconds
//! later, the vCPUs' (`create_devices` and `boot` in `vmm/src/vm.rs`, v51.1): on a busy host the
//! later one may be the first to get a CPU. While all threads of the VMM share one CPU, they get it
//! in the order in which they were started.

use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The threads of a process on one CPU, as long as this lives.
pub(crate) struct Pinned {
    process: Pid,
    before: CpuSet,
}

impl Pinned {
    /// Puts all threads of a process, and those that they will start, on one CPU. `None` where that
    /// is not allowed: it only makes sure what mostly goes well.
    pub(crate) fn new(process: Pid) -> Option<Pinned> {
        let before = sched_getaffinity(Some(process)).ok()?;
        let mut one = CpuSet::new();
        let here = sched_getcpu();
        let cpu =
            if before.is_set(here) { here } else { (0..CpuSet::MAX_CPU).find(|&cpu| before.is_set(cpu))? };
        one.set(cpu);
        let pinned = Pinned { process, before };
        pinned.move_all(&one).ok()?;
        Some(pinned)
    }

    fn move_all(&self, cpus: &CpuSet) -> Result<(), Errno> {
        for thread in threads(self.process) {
            match sched_setaffinity(Some(thread), cpus) {
                Ok(()) | Err(Errno::SRCH) => {} // it may have ended
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Twice, for one that was started meanwhile by one that was still pinned.
        for _ in 0..2 {
            let _ = self.move_all(&self.before); // what was allowed once is allowed again
        }
    }
}

/// The threads of a process.
pub(super) fn threads(process: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    let numbers =
        tasks.into_iter().flatten().flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}
