//! Cost of bringing a console to disk, beside other programs that do it. Prints tables for
//! docs/performance.md.
//!
//! - 1-byte writes at 1 MB/s, as a UART makes them: CPU and memory of the capturing process, and
//!   how late bytes are on disk and at a follower's standard output; beside socat on a unix socket,
//!   conmon, and libvirt's virtlogd.
//! - 1-byte sends through a unix socket: CPU, and how long the sender takes; beside socat and a
//!   plain loop of 32 KiB.
//! - As much as goes through a FIFO or socket: beside socat, conmon, virtlogd and a plain loop of
//!   256 KiB reads and writes.
//! - Five hundred consoles at 1 KB/s: CPU and memory of their shims, beside as many socats.
//!
//! Each way of capturing is a process of its own, so that its CPU and its memory are its own. They
//! take turns, and all write to the same file system.

mod consoles;
mod peers;
mod report;
mod slow;
mod socket;

use std::path::Path;

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
    if let Some(lacking) = peers::lacking() {
        println!("SKIPPED capture: {lacking}");
        return;
    }
    // `cargo bench -p hypeman-tests --bench capture -- bulk` prints that table alone.
    let chosen: Vec<&str> =
        arguments[1..].iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let tables: [(&str, fn()); 4] =
        [("slow", slow::run), ("socket", socket::run), ("bulk", report::bulk), ("consoles", consoles::run)];
    report::machine();
    for (name, print) in tables {
        if chosen.is_empty() || chosen.contains(&name) {
            print();
        }
    }
}
