//! The machine, a process' figures, and bulk capture.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use hypeman_tests::measure::pss;

use crate::peers::{self, Running};

/// Bytes of a bulk round.
const BULK: u64 = 2 << 30;
const ROUNDS: usize = 5;

/// Says on what all this was measured.
pub(crate) fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    println!(
        "Machine: {cores} cores of {}, Linux {}",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    );
}

/// As much as goes through a FIFO and through a unix socket, each way in turn; the best of some
/// rounds.
pub(crate) fn bulk() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("bulk.log");
    let ways: [(&str, &dyn Fn() -> Running); 9] = [
        ("plain loop, 256 KiB, on a FIFO", &|| peers::on_fifo("loop", &path)),
        ("hypeman's capture on a FIFO", &|| peers::on_fifo("capture-unrotated", &path)),
        ("the same, rotating at 50 MB", &|| peers::on_fifo("capture", &path)),
        ("conmon, on its pipe", &|| peers::conmon(&path)),
        ("virtlogd, on its pipe", &|| peers::virtlogd(&path)),
        ("plain loop, 256 KiB, on a socket", &|| peers::on_socket("loop", &path)),
        ("socat, 256 KiB blocks, on a socket", &|| peers::socat_on_socket(&path)),
        ("hypeman's capture on a socket", &|| peers::on_socket("capture-unrotated", &path)),
        ("the same, rotating at 50 MB", &|| peers::on_socket("capture", &path)),
    ];
    let mut best = [(0.0_f64, 0); 9];
    for _ in 0..ROUNDS {
        for ((_, start), best) in ways.iter().zip(&mut best) {
            let (rate, weight) = feed(start(), &path);
            *best = (best.0.max(rate), weight);
        }
    }
    println!("\n| {} GiB, best of {ROUNDS} | MB/s | of the loop | PSS |\n|---|---|---|---|", BULK >> 30);
    for (index, ((name, _), (rate, weight))) in ways.iter().zip(best).enumerate() {
        let plain = best[if index < 5 { 0 } else { 5 }].0;
        println!("| {name} | {rate:.0} | {:.2} | {weight} KiB |", rate / plain);
    }
}

/// Rate in MB/s, and the weight in KiB half-way.
fn feed(running: Running, path: &Path) -> (f64, u64) {
    let block: Vec<u8> = (0..256 * 1024).map(|n| if n % 64 == 63 { b'\n' } else { b'x' }).collect();
    let mut writer = File::from(running.writer.try_clone().expect("another handle"));
    let mut weight = 0;
    let begin = Instant::now();
    for number in 0..BULK / block.len() as u64 {
        writer.write_all(&block).expect("write");
        if number == BULK / block.len() as u64 / 2 {
            weight = pss(running.child.id());
        }
    }
    drop(writer);
    // Our rotation drops what is too old, and conmon adds to it: those end by themselves when they
    // have written all.
    running.end_when(|| path.metadata().is_ok_and(|file| file.len() >= BULK));
    let rate = BULK as f64 / 1e6 / begin.elapsed().as_secs_f64();
    for file in hypeman_console::chain::files(path).expect("the files") {
        std::fs::remove_file(file).expect("remove");
    }
    (rate, weight)
}
