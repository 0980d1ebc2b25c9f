//! Standby, restore and forks beside the same done by hand: the same QEMU driven over QMP, and
//! `cp`. And what compression makes of a memory. Prints tables for docs/performance.md.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hypeman_snapshot::{Algorithm, compression};
use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{self, testguest};
use hypeman_tests::guest::Guest;
use hypeman_tests::measure::{median, prints, timed};
use hypeman_tests::needs::{BUSYBOX, Need, QEMU, find};
use hypeman_tests::vm::Instance;
use serde_json::{Value, json};
use testguest::Options;

/// Rounds of each in turn.
const ROUNDS: usize = 20;

/// Where the guest prints that is driven by hand.
const LOG: &str = "by-hand.log";

/// Forks at once.
const FORKS: usize = 10;

fn main() {
    if let Some(lacking) = QEMU.lacking() {
        println!("SKIPPED standby: {lacking}");
        return;
    }
    sleep();
    fork_of_disk();
    forks_at_once();
    compressions();
}

fn sleep() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let vm = Guest::new(&bed, "sleeps").with(&["--accel", "tcg"]).run();
    let log = vm.directory().join("logs/app.log");
    prints(&log);
    bed.ok(&["standby", "sleeps"]);
    let mut hand = ByHand::start(scratch.path(), false);
    prints(&scratch.path().join(LOG));
    hand.standby();
    let mut times: [Vec<Duration>; 4] = Default::default();
    // One after the other in turn, so that both meet the same weather; and while one is up, the
    // other sleeps.
    for _ in 0..ROUNDS {
        let (restored, mut hand) = timed(|| {
            let mut hand = ByHand::start(scratch.path(), true);
            hand.ask(&json!({"execute": "cont"}));
            hand
        });
        times[2].push(restored);
        prints(&scratch.path().join(LOG));
        times[0].push(timed(|| hand.standby()).0);
        times[3].push(timed(|| bed.ok(&["restore", "sleeps"])).0);
        prints(&log);
        times[1].push(timed(|| bed.ok(&["standby", "sleeps"])).0);
    }
    let [by_hand, ours, by_hand_back, ours_back] = times.map(median);
    println!("| QEMU on TCG, 32 MiB, median of {ROUNDS} | by hand | hypeman | on top |\n|---|---|---|---|");
    println!("| standby | {by_hand:.1} ms | {ours:.1} ms | {:.1} ms |", ours - by_hand);
    println!("| restore | {by_hand_back:.1} ms | {ours_back:.1} ms | {:.1} ms |\n", ours_back - by_hand_back);
}

/// A QEMU that is driven over QMP, as one would by hand.
struct ByHand {
    process: Child,
    qmp: BufReader<UnixStream>,
    memory: std::path::PathBuf,
}

impl ByHand {
    /// Starts it; from a memory that was saved, if it is to.
    fn start(scratch: &Path, from_memory: bool) -> ByHand {
        let (socket, memory) = (scratch.join("by-hand.sock"), scratch.join("by-hand.memory"));
        let _ = std::fs::remove_file(&socket);
        let cmdline = Options { count: 0, ..Options::default() }.to_string();
        let mut command = Command::new(find("qemu-system-x86_64").expect("QEMU"));
        command.args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-nodefaults", "-no-user-config"]);
        command.args(["-display", "none", "-m", "32", "-kernel", testguest(), "-append", &cmdline]);
        command.arg("-serial").arg(format!("file:{}", scratch.join(LOG).display()));
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        if from_memory {
            command.arg("-S").arg("-incoming").arg(format!("exec:cat {}", memory.display()));
        }
        let process = command.stdin(Stdio::null()).spawn().expect("QEMU");
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        let mut hand = ByHand { process, qmp: BufReader::new(stream), memory };
        hand.answer();
        hand.ask(&json!({"execute": "qmp_capabilities"}));
        if from_memory {
            hand.wait_until_migrated();
        }
        hand
    }

    fn ask(&mut self, request: &Value) -> Value {
        // At once: QEMU does not wait for the end of the line.
        self.qmp.get_mut().write_all(format!("{request}\n").as_bytes()).expect("QMP");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        loop {
            let mut line = String::new();
            self.qmp.read_line(&mut line).expect("QMP");
            let value: Value = serde_json::from_str(&line).expect("JSON");
            if value.get("event").is_none() {
                return value;
            }
        }
    }

    fn wait_until_migrated(&mut self) {
        while self.ask(&json!({"execute": "query-migrate"}))["return"]["status"] != "completed" {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Saves its memory, on the disk, and ends it.
    fn standby(&mut self) {
        self.ask(&json!({"execute": "stop"}));
        let arguments = json!({"max-bandwidth": i64::MAX});
        self.ask(&json!({"execute": "migrate-set-parameters", "arguments": arguments}));
        let uri = format!("exec:cat > {}", self.memory.display());
        self.ask(&json!({"execute": "migrate", "arguments": {"uri": uri}}));
        self.wait_until_migrated();
        std::fs::File::open(&self.memory).and_then(|memory| memory.sync_all()).expect("sync");
        self.ask(&json!({"execute": "quit"}));
        let _ = self.process.wait();
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn fork_of_disk() {
    let scratch = tempfile::tempdir_in(fixtures::directory()).expect("a directory");
    let bed = Bed::new(scratch.path());
    let source = Guest::new(&bed, "disk").create();
    let overlay = source.directory().join("disks/overlay");
    let disk = std::fs::File::create(&overlay).expect("a disk");
    disk.set_len(10 << 30).expect("make it large");
    let data: Vec<u8> = (0..1_u32 << 20).flat_map(|number| number.to_le_bytes()).collect();
    for at in 0..16 {
        std::os::unix::fs::FileExt::write_all_at(&disk, &data, at * (600 << 20)).expect("write");
    }
    disk.sync_all().expect("sync");
    let (mut hand, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS / 2 {
        let copy = scratch.path().join("copy");
        hand.push(
            timed(|| {
                let mut command = Command::new("cp");
                command.args(["--sparse=auto", "--reflink=auto"]).arg(&overlay).arg(&copy);
                assert!(command.status().expect("cp").success());
                std::fs::File::open(&copy).and_then(|copy| copy.sync_all()).expect("sync");
            })
            .0,
        );
        std::fs::remove_file(&copy).expect("remove it");
        let name = format!("fork-{round}");
        ours.push(timed(|| bed.ok(&["fork", "disk", &name])).0);
        bed.ok(&["rm", &name]);
    }
    let (hand, ours) = (median(hand), median(ours));
    println!(
        "| a 10 GiB disk with 64 MiB in it, median of {} | cp | hypeman fork | on top |\n|---|---|---|---|",
        ROUNDS / 2
    );
    println!("| fork of a stopped instance | {hand:.1} ms | {ours:.1} ms | {:.1} ms |\n", ours - hand);
}

fn forks_at_once() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let vm = Guest::new(&bed, "mother").run();
    prints(&vm.directory().join("logs/app.log"));
    bed.ok(&["standby", "mother"]);
    let names: Vec<String> = (0..FORKS).map(|number| format!("daughter-{number}")).collect();
    let one = timed(|| bed.ok(&["fork", "--state", "running", "mother", "alone"])).0;
    let all = timed(|| {
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| bed.ok(&["fork", "--state", "running", "mother", name]));
            }
        });
    })
    .0;
    println!("| forks of a sleeping VM that run | time |\n|---|---|");
    println!("| one | {:.0} ms |", one.as_secs_f64() * 1000.0);
    println!("| {FORKS} at once | {:.0} ms |\n", all.as_secs_f64() * 1000.0);
    for name in names.iter().map(String::as_str).chain(["alone"]) {
        bed.ok(&["rm", "-f", name]);
    }
}

fn compressions() {
    if let Some(lacking) = BUSYBOX.lacking().or_else(|| Need::Root.lacking()) {
        println!("SKIPPED compression: {lacking}");
        return;
    }
    let bed = fixtures::bed();
    let arguments = ["--memory", "256m", fixtures::busybox(), "sh", "-c", "echo up; sleep 100000"];
    let vm = Instance::run(bed, "compressed", &arguments);
    let _ = vm.read_until("up");
    bed.ok(&["standby", "compressed"]);
    println!("| memory of a Linux guest of 256 MiB | size | compressed in | back in |\n|---|---|---|---|");
    let size =
        |what: &str| bed.inspect("compressed")["snapshot"][what].as_u64().unwrap_or(0) as f64 / 1048576.0;
    println!("| as it is | {:.1} MiB | | |", size("uncompressed_size_bytes"));
    let directory = vm.directory();
    for algorithm in [Algorithm::Zstd, Algorithm::Lz4] {
        let there = timed(|| compression::process::compress(&directory, algorithm).expect("compress")).0;
        let compressed = size("compressed_size_bytes");
        let back = timed(|| compression::expand(&directory).expect("expand")).0;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!("| {} | {compressed:.1} MiB | {:.0} ms | {:.0} ms |", algorithm.name(), ms(there), ms(back));
    }
}
