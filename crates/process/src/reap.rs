//! Reaps children that nobody waits for.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The way to the thread that reaps, once there was a child for it.
static REAPER: Mutex<Option<Reaper>> = Mutex::new(None);

struct Reaper {
    children: std::sync::mpsc::Sender<Child>,
    /// Wakes the thread when something is written to it.
    wake: std::io::PipeWriter,
}

/// Reaps a child when it ends, from a thread of its own for all of them. Without it a child that
/// ends before its parent stays a zombie.
pub fn reap(child: Child) {
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if reaper.is_none() {
        *reaper = start().ok(); // without a thread they are zombies, as without us
    }
    if let Some(Reaper { children, wake }) = &mut *reaper
        && children.send(child).is_ok()
    {
        let _ = std::io::Write::write_all(wake, b"c");
    }
}

fn start() -> std::io::Result<Reaper> {
    let (children, handed_over) = std::sync::mpsc::channel();
    let (mut woken, wake) = std::io::pipe()?;
    let reap_all = move || {
        let mut children: Vec<(Child, Option<OwnedFd>)> = Vec::new();
        loop {
            let mut polled = vec![PollFd::new(&woken, PollFlags::IN)];
            let descriptors = children.iter().filter_map(|(_, descriptor)| descriptor.as_ref());
            polled.extend(descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::IN)));
            let _ = poll(&mut polled, None); // whatever ends it, all are looked at
            if !polled[0].revents().is_empty() {
                let _ = std::io::Read::read(&mut woken, &mut [0; 64]);
                children.extend(handed_over.try_iter().map(|child| {
                    let descriptor = descriptor(&child);
                    (child, descriptor)
                }));
            }
            children.retain_mut(|(child, _)| matches!(child.try_wait(), Ok(None)));
        }
    };
    std::thread::Builder::new().name("reaper".to_owned()).spawn(reap_all)?;
    Ok(Reaper { children, wake })
}

/// Becomes readable when the child ends. Until it is reaped its pid is its own.
fn descriptor(child: &Child) -> Option<OwnedFd> {
    let pid = Pid::from_raw(child.id().cast_signed())?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn children_that_nobody_waits_for_leave_no_zombie() {
        let start = |index: usize| {
            let script = if index.is_multiple_of(2) { "exit 0" } else { "read line" };
            let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
            let stdin = child.stdin.take();
            let process = format!("/proc/{}", child.id());
            reap(child);
            (process, stdin)
        };
        let threads = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..8).map(start).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let (processes, stdins): (Vec<_>, Vec<_>) = threads.into_iter().unzip();
        drop(stdins); // which ends the other half
        let deadline = Instant::now() + Duration::from_secs(60);
        while processes.iter().any(|process| Path::new(process).exists()) {
            assert!(Instant::now() < deadline, "some are left");
            std::thread::yield_now();
        }
    }
}
