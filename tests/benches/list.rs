//! `hypeman ps -a` of very many instances, beside reading the same records with find and cat.
//! Prints a table for docs/performance.md.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::measure::median;

const INSTANCES: usize = 10_000;
const ROUNDS: usize = 21;

fn main() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let made = bed.command(&["create", "--name", "i0", "--kernel", testguest()]).output().expect("hypeman");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let instances = bed.data_dir.join("instances");
    multiply(&instances, &bed.instance_directories()[0]);

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

/// Makes many instances of one that was created.
fn multiply(instances: &Path, first: &str) {
    let record = std::fs::read_to_string(instances.join(first).join("instance.json")).expect("a record");
    for number in 1..INSTANCES {
        let id = format!("{number:024x}");
        let directory = instances.join(&id);
        let record = record.replace(first, &id).replace("\"i0\"", &format!("\"i{number}\""));
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(directory.join("instance.json"), record).expect("a record");
    }
}

fn timed(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("a program");
    assert!(status.success());
    begin.elapsed()
}
