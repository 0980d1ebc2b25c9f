//! `hypeman ps -a` of very many instances, beside reading the same records with find and cat.
//! Prints a table for docs/performance.md.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::measure::{create_many, median};

const INSTANCES: usize = 10_000;
const ROUNDS: usize = 21;

fn main() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    create_many(&bed, INSTANCES, &[]);
    let instances = bed.data_dir.join("instances");

    let (mut peer, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut cat = Command::new("find");
        cat.arg(&instances).args(["-name", "instance.json", "-exec", "cat", "{}", "+"]);
        peer.push(timed(&mut cat));
        ours.push(timed(&mut bed.command(&["ps", "-a"])));
    }
    let (peer, ours) = (median(peer), median(ours));
    println!("| {INSTANCES} instances, median of {ROUNDS} | time | of find and cat |\n|---|---|---|");
    println!("| find and cat | {peer:.0} ms | 1.00 |");
    println!("| hypeman ps -a | {ours:.0} ms | {:.2} |", ours / peer);
}

fn timed(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("a program");
    assert!(status.success());
    begin.elapsed()
}
