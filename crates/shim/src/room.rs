//! When a VM that was paused because the host's disk was full may go on.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// Room that has to be there, in bytes: with less the guest would fill it at once, and be paused
/// again.
const ENOUGH: u64 = 4 << 20;

/// Shortest and longest time between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A VM that has gone on for so long was paused for a new reason.
const GOOD_WHILE: Duration = Duration::from_secs(60);

/// The attempts to let a VM go on.
#[derive(Debug)]
pub(crate) struct Attempts {
    pause: Duration,
    last: Option<Instant>,
}

impl Attempts {
    pub(crate) fn new() -> Attempts {
        Attempts { pause: FIRST_PAUSE, last: None }
    }

    /// When to look next, after the VM was paused or there was no room yet.
    pub(crate) fn next(&mut self, now: Instant) -> Instant {
        if self.last.is_some_and(|last| now.duration_since(last) > GOOD_WHILE) {
            self.pause = FIRST_PAUSE;
        }
        now + self.pause
    }

    /// The VM was told to go on: if that was too soon, the next attempt waits for longer.
    pub(crate) fn made(&mut self, now: Instant) {
        self.last = Some(now);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether there is room for what the guest in this directory writes.
pub(crate) fn is_there(directory: &Path) -> bool {
    let room = rustix::fs::statvfs(directory).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    room.is_ok_and(|room| room >= ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_again_at_once_is_tried_less_and_less_often() {
        let begin = Instant::now();
        let mut attempts = Attempts::new();
        let mut pauses = Vec::new();
        let mut now = begin;
        for _ in 0..8 {
            let next = attempts.next(now);
            pauses.push(next - now);
            attempts.made(next);
            now = next;
        }
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.is_sorted() && pauses[7] == LONGEST_PAUSE, "{pauses:?}");
        let later = now + GOOD_WHILE + Duration::from_secs(1);
        assert_eq!(attempts.next(later) - later, FIRST_PAUSE, "after it went on well it is a new trouble");
    }
}
