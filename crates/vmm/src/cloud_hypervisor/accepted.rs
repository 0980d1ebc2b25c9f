//! Keeps a restored guest from printing before our connection is served.
//!
//! Releases before v53.0 drop what the guest prints until their thread `serial-manager` has
//! accepted the client that waits in the backlog. Restoring starts that thread, resuming lets the
//! guest go on, and in between we connect: that wakes the thread, but on a busy host the guest may
//! be the first to get a CPU. Real v51.1 lost up to ten lines so. The thread sleeps in
//! epoll_wait(2) and nowhere else as long as nothing is to be done (`start_thread` in
//! `vmm/src/serial_manager.rs`), and a connection ends that sleep before connect(2) returns. So
//! once it is found asleep there, the connection is served.

use std::time::{Duration, Instant};

use rustix::thread::Pid;

use super::pin::threads;

/// The thread's name.
const SERIAL_MANAGER: &str = "serial-manager";

/// Numbers of epoll_wait(2) and epoll_pwait(2) on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
const EPOLL_WAITS: [&str; 2] = ["232", "281"];

/// How often the thread is looked at. Mostly the first look finds it asleep again.
const LOOK: Duration = Duration::from_micros(200);

/// How long it is waited for at most. A host on which it does not run for so long has other
/// troubles than a lost line.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits until all who have connected to the serial line of this VMM, whose guest does not run, are
/// served.
pub(crate) async fn wait_until_served(process: Pid) {
    let deadline = Instant::now() + LONGEST;
    while !is_idle(process) && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the thread waits for something to do. Before it has its name, it is not there yet.
fn is_idle(process: Pid) -> bool {
    let process_id = process.as_raw_nonzero();
    threads(process).into_iter().any(|thread| {
        let read = |file| {
            std::fs::read_to_string(format!("/proc/{process_id}/task/{}/{file}", thread.as_raw_nonzero()))
                .unwrap_or_default()
        };
        // For a running thread the file says so instead of a system call (proc_pid_syscall(5)).
        read("comm").trim_end() == SERIAL_MANAGER
            && read("syscall").split(' ').next().is_some_and(|call| EPOLL_WAITS.contains(&call))
    })
}
