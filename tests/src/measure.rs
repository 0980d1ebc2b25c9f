//! Functions that benchmarks share.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::console::whole;
use crate::wait::until;

/// The median, in milliseconds.
#[must_use]
pub fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// How long something takes, and what it came to.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let done = work();
    (begin.elapsed(), done)
}

/// Proportional set size of a process in KiB; 0 when it is not there.
#[must_use]
pub fn pss(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Waits until the guest of this log has printed: then it is past what every start needs.
///
/// # Panics
/// When it does not.
pub fn prints(log: &Path) {
    let before = whole(log).len();
    until("the log grows", || whole(log).len() > before + 1000);
}
