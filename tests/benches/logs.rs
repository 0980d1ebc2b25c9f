//! `hypeman logs` of large logs, beside cat and tail. Prints tables for docs/performance.md.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::measure::median;

const ROUNDS: usize = 11;
const LARGE: u64 = 1 << 30;
const HUGE: u64 = 10 << 30;

fn main() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("target");
    let scratch = tempfile::tempdir_in(target).expect("a directory");
    let bed = Bed::new(scratch.path());
    bed.ok(&["create", "--name", "large", "--kernel", testguest()]);
    let directory = bed.data_dir.join("instances").join(&bed.instance_directories()[0]).join("logs");
    std::fs::create_dir_all(&directory).expect("a directory");
    let log = directory.join("app.log");
    write_lines(&log, LARGE);

    let (mut peer, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        peer.push(piped(Command::new("cat").arg(&log), LARGE));
        ours.push(piped(&mut bed.command(&["logs", "large"]), LARGE));
    }
    let (peer, ours) = (median(peer), median(ours));
    let rate = |time: f64| LARGE as f64 / 1e6 / (time / 1000.0);
    println!("| 1 GiB to a pipe, median of {ROUNDS} | MB/s | of cat |\n|---|---|---|");
    println!("| cat | {:.0} | 1.00 |", rate(peer));
    println!("| hypeman logs | {:.0} | {:.2} |", rate(ours), peer / ours);

    // Only its end is read: the rest may be a hole.
    let file = File::options().write(true).open(&log).expect("open");
    file.set_len(HUGE - (1 << 20)).expect("make it larger");
    drop(file);
    write_lines(&log, HUGE);
    let (mut empty, mut peer, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tail = piped(Command::new("tail").args(["-n", "100"]).arg(&log), 1);
        peer.push(tail);
        empty.push(piped(&mut bed.command(&["logs", "--tail", "0", "large"]), 0));
        ours.push(piped(&mut bed.command(&["logs", "--tail", "100", "large"]), 1));
    }
    let (empty, peer, ours) = (median(empty), median(peer), median(ours));
    println!("\n| the last 100 lines of 10 GiB, median of {ROUNDS} | time | of tail |\n|---|---|---|");
    println!("| tail -n 100 | {peer:.1} ms | 1.00 |");
    println!("| hypeman logs --tail 100 | {ours:.1} ms | {:.2} |", ours / peer);
    println!("| of that, all but finding and showing them | {empty:.1} ms | |");
}

/// Adds lines until the file has that size.
fn write_lines(path: &Path, size: u64) {
    let file = File::options().append(true).create(true).open(path).expect("open");
    let mut left = size - file.metadata().expect("metadata").len();
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let line = [&[b'x'; 99][..], b"\n"].concat();
    while left > 0 {
        let some = &line[line.len() - left.min(line.len() as u64) as usize..];
        file.write_all(some).expect("write");
        left -= some.len() as u64;
    }
    file.flush().expect("write");
}

/// How long a command takes to write at least so much into a pipe, and to end.
fn piped(command: &mut Command, least: u64) -> Duration {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a program");
    let mut pipe = child.stdout.take().expect("piped");
    let mut buffer = vec![0; 1 << 18];
    let mut all = 0;
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        all += count as u64;
    }
    assert!(child.wait().expect("its end").success() && all >= least, "{all} bytes");
    begin.elapsed()
}
