//! 1-byte writes at 1 MB/s: CPU, and how late bytes are on disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::peers::{self, Running};
use crate::report::cpu_seconds;

const RATE: u64 = 1_000_000;
/// Every so many bytes the delay of one is measured.
const SAMPLE: u64 = 1000;

pub(crate) fn run(duration: Duration) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let bytes = RATE * duration.as_secs();
    println!(
        "\n| 1-byte writes at 1 MB/s for {} s | CPU | p50 to disk | p99 to disk |\n|---|---|---|---|",
        duration.as_secs()
    );
    let path = directory.path().join("socat.log");
    let socat = feed(peers::socat_on_socket(&path), &path, bytes);
    row("socat on a unix socket", &socat);
    let path = directory.path().join("ours.log");
    let (source, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let _ = rustix::pipe::fcntl_setpipe_size(&source, 1 << 20);
    let ours = feed(peers::own("capture", &path, source, writer), &path, bytes);
    row("hypeman's capture on a FIFO", &ours);
    println!("\nhypeman's CPU is {:.3} of socat's (goal: at most 0.05).", ours.cpu / socat.cpu);
}

struct Figures {
    cpu: f64,
    delays: Vec<Duration>,
}

fn row(name: &str, figures: &Figures) {
    let at = |share: f64| {
        let index = (figures.delays.len() as f64 * share) as usize;
        figures.delays[index.min(figures.delays.len() - 1)].as_secs_f64() * 1000.0
    };
    println!("| {name} | {:.2} s | {:.1} ms | {:.1} ms |", figures.cpu, at(0.5), at(0.99));
}

/// Writes at the rate and watches the file grow; the CPU is that of the capturing process at its end.
fn feed(mut running: Running, path: &Path, bytes: u64) -> Figures {
    let written: Vec<AtomicU64> = (0..bytes / SAMPLE).map(|_| AtomicU64::new(0)).collect();
    let begin = Instant::now();
    let delays = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(path, &written, begin));
        let mut writer = File::from(running.writer);
        for n in 0..bytes {
            // A line of 64 bytes, as consoles have them.
            writer.write_all(if n % 64 == 63 { b"\n" } else { b"x" }).expect("write");
            if n % SAMPLE == SAMPLE - 1 {
                written[(n / SAMPLE) as usize].store(begin.elapsed().as_nanos() as u64, Ordering::Release);
                let due = Duration::from_secs_f64(n as f64 / RATE as f64);
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
            }
        }
        // Its end is the end of the capture, which must not come before its CPU was read.
        let delays = watcher.join().expect("the watcher");
        (delays, cpu_seconds(running.child.id()), writer)
    });
    let (mut delays, cpu, writer) = delays;
    drop(writer);
    running.child.wait().expect("the capture");
    delays.sort();
    Figures { cpu, delays }
}

/// For each sample, the time from its write until the file had it.
fn watch(path: &Path, written: &[AtomicU64], begin: Instant) -> Vec<Duration> {
    let mut delays = Vec::new();
    for (index, stamp) in written.iter().enumerate() {
        let end = (index as u64 + 1) * SAMPLE;
        while !path.metadata().is_ok_and(|metadata| metadata.len() >= end)
            || stamp.load(Ordering::Acquire) == 0
        {
            std::thread::sleep(Duration::from_micros(200));
        }
        let now = begin.elapsed();
        delays.push(now.saturating_sub(Duration::from_nanos(stamp.load(Ordering::Acquire))));
    }
    delays
}
