//! 1-byte sends through a unix socket, as Cloud Hypervisor makes them: CPU of the capturing
//! process, and how long the sender takes when it sends at once whatever it can.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use hypeman_tests::measure::cpu_seconds;

use crate::peers::{self, Running};

/// Bytes of a round.
const BYTES: u64 = 4_000_000;
const ROUNDS: usize = 5;
/// Rate of the paced rounds in bytes a second, and how many are sent between two looks at the
/// clock.
const RATE: u64 = 1_000_000;
const BURST: u64 = 1000;

pub(crate) fn run() {
    table(&format!("{} MB in 1-byte sends, as fast as they go", BYTES / 1_000_000), None);
    table(&format!("{} MB in 1-byte sends at 1 MB/s", BYTES / 1_000_000), Some(RATE));
}

/// Medians of some rounds, in each of which all ways take turns.
fn table(title: &str, rate: Option<u64>) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("socket.log");
    let mut figures: [Vec<(f64, f64)>; 3] = Default::default();
    for _ in 0..ROUNDS {
        figures[0].push(feed(peers::socat_on_socket(&path), &path, rate));
        figures[1].push(feed(peers::on_socket("loop-32k", &path), &path, rate));
        figures[2].push(feed(peers::on_socket("capture", &path), &path, rate));
    }
    let median = |figures: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let rows = figures.each_ref().map(|all| (median(all, |f| f.0), median(all, |f| f.1)));
    println!(
        "\n| {title}, median of {ROUNDS} | CPU | of the loop | sender's time | of socat |\n|---|---|---|---|---|"
    );
    for (name, (cpu, time)) in ["socat", "plain loop, 32 KiB", "hypeman's capture"].iter().zip(rows) {
        println!("| {name} | {cpu:.2} s | {:.2} | {time:.2} s | {:.2} |", cpu / rows[1].0, time / rows[0].1);
    }
}

/// CPU of the capture until all is on disk, and the time until all was sent, in seconds.
fn feed(running: Running, path: &Path, rate: Option<u64>) -> (f64, f64) {
    let mut writer = File::from(running.writer.try_clone().expect("another handle"));
    let begin = Instant::now();
    for n in 0..BYTES {
        writer.write_all(if n % 64 == 63 { b"\n" } else { b"x" }).expect("write");
        if let Some(rate) = rate.filter(|_| n % BURST == BURST - 1) {
            let due = Duration::from_secs_f64(n as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    let time = begin.elapsed().as_secs_f64();
    while !path.metadata().is_ok_and(|metadata| metadata.len() >= BYTES) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let cpu = cpu_seconds(running.child.id());
    drop(writer);
    running.end();
    std::fs::remove_file(path).expect("remove");
    (cpu, time)
}
