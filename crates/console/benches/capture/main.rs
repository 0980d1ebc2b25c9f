//! What it costs to bring a console to disk, beside other ways of doing it. Prints tables for docs/performance.md.
//!
//! - 1-byte writes at 1 MB/s, as a UART makes them: CPU of the capturing process, and how late bytes are on disk; beside
//!   socat on a unix socket.
//! - 1-byte sends through a unix socket: CPU, and how long the sender takes; beside socat and a plain loop of 32 KiB.
//! - As much as goes through a FIFO or socket: beside socat and a plain loop of 256 KiB reads and writes.
//!
//! Each way of capturing is a process of its own, so that its CPU and its memory are its own. They take turns, and all
//! write to the same file system.

mod peers;
mod report;
mod slow;
mod socket;

use std::path::Path;
use std::time::Duration;

fn main() {
    // The same program is also what it measures.
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("capture") => return peers::capture_stdin(Path::new(&arguments[2]), 50 << 20),
        Some("capture-unrotated") => return peers::capture_stdin(Path::new(&arguments[2]), u64::MAX),
        Some("loop") => return peers::loop_stdin(Path::new(&arguments[2]), 256 * 1024),
        Some("loop-32k") => return peers::loop_stdin(Path::new(&arguments[2]), 32 * 1024),
        _ => {}
    }
    if peers::socat().is_none() {
        println!("SKIPPED capture: socat is missing: apt-get install socat");
        return;
    }
    report::machine();
    slow::run(Duration::from_secs(5));
    socket::run();
    report::bulk();
}
