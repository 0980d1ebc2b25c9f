//! Functions that benchmarks share.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::console::whole;
use crate::fixtures::testguest;
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

/// User and system time of a process so far, in seconds (proc(5): fields 14 and 15 of its stat, in
/// ticks of 10 ms).
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a stat line").1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// Proportional set size of a process in KiB; 0 when it is not there.
#[must_use]
pub fn pss(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Makes `count` instances with these options in an empty bed: one is created, and the others are
/// copies of it.
///
/// # Panics
/// When one cannot be made.
pub fn create_many(bed: &Bed, count: usize, options: &[&str]) {
    bed.ok(&[&["create", "--name", "i0", "--kernel", testguest()], options].concat());
    let (instances, first) = (bed.data_dir.join("instances"), &bed.instance_directories()[0]);
    let record = std::fs::read_to_string(instances.join(first).join("instance.json")).expect("a record");
    for number in 1..count {
        let id = format!("{number:024x}");
        let directory = instances.join(&id);
        let record = record.replace(first, &id).replace("\"i0\"", &format!("\"i{number}\""));
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(directory.join("instance.json"), record).expect("a record");
        std::fs::hard_link(instances.join(first).join("kernel"), directory.join("kernel")).expect("a kernel");
        std::fs::create_dir(directory.join("disks")).expect("a directory");
    }
}

/// Waits until the guest of this log has printed: then it is past what every start needs.
///
/// # Panics
/// When it does not.
pub fn prints(log: &Path) {
    let before = whole(log).len();
    until("the log grows", || whole(log).len() > before + 1000);
}
