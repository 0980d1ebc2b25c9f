//! Standby and restore on the real Cloud Hypervisor, beside the same one driven by hand over its
//! API. Prints a table for docs/performance.md.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::ch::{self, ByHand};
use hypeman_tests::console::whole;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::guest::Guest;
use hypeman_tests::measure::{median, timed};
use hypeman_tests::wait::until;
use serde_json::{Value, json};
use testguest::Options;

/// Rounds of each in turn.
const ROUNDS: usize = 20;

/// Where the guest prints that is driven by hand.
const LOG: &str = "by-hand.log";

fn main() {
    if !ch::is_real() {
        println!("SKIPPED: name a Cloud Hypervisor in HYPEMAN_TEST_CLOUD_HYPERVISOR");
        return;
    }
    let program = &ch::programs()[0];
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let arguments = ["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", program];
    let vm = Guest::new(&bed, "sleeps").with(&arguments).run();
    let log = vm.directory().join("logs/app.log");
    prints(&log);
    bed.ok(&["standby", "sleeps"]);
    let hand = Hand::boot(program, scratch.path());
    prints(&scratch.path().join(LOG));
    hand.standby(scratch.path());
    let mut times: [Vec<Duration>; 4] = Default::default();
    // One after the other in turn, so that both meet the same weather; and while one is up, the
    // other sleeps.
    for _ in 0..ROUNDS {
        let (restored, hand) = timed(|| Hand::restore(program, scratch.path()));
        times[2].push(restored);
        prints(&scratch.path().join(LOG));
        times[0].push(timed(|| hand.standby(scratch.path())).0);
        times[3].push(timed(|| bed.ok(&["restore", "sleeps"])).0);
        prints(&log);
        times[1].push(timed(|| bed.ok(&["standby", "sleeps"])).0);
    }
    let [by_hand, ours, by_hand_back, ours_back] = times.map(median);
    println!(
        "| Cloud Hypervisor on KVM, 32 MiB, median of {ROUNDS} | by hand | hypeman | on top |\n|---|---|---|---|"
    );
    println!("| standby | {by_hand:.1} ms | {ours:.1} ms | {:.1} ms |", ours - by_hand);
    println!("| restore | {by_hand_back:.1} ms | {ours_back:.1} ms | {:.1} ms |\n", ours_back - by_hand_back);
}

/// A Cloud Hypervisor of ours, and its API.
struct Hand {
    process: Child,
    api: ByHand,
}

impl Hand {
    fn start(program: &str, scratch: &Path) -> Hand {
        let socket = scratch.join("by-hand.sock");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(program);
        let process = command.arg("--api-socket").arg(&socket).spawn().expect("Cloud Hypervisor");
        while UnixStream::connect(&socket).is_err() {
            std::thread::sleep(Duration::from_micros(200));
        }
        Hand { process, api: ByHand::running(&socket) }
    }

    fn boot(program: &str, scratch: &Path) -> Hand {
        let hand = Hand::start(program, scratch);
        let config = json!({
            "payload": {"kernel": testguest(), "cmdline": Options { count: 0, ..Options::default() }.to_string()},
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
            "memory": {"size": 32 << 20},
            "serial": {"mode": "File", "file": scratch.join(LOG)},
            "console": {"mode": "Off"},
        });
        hand.api.put("vm.create", &config);
        hand.api.put("vm.boot", &Value::Null);
        hand
    }

    fn restore(program: &str, scratch: &Path) -> Hand {
        let hand = Hand::start(program, scratch);
        hand.api.put("vm.restore", &json!({"source_url": format!("file://{}", snapshot(scratch).display())}));
        hand.api.put("vm.resume", &Value::Null);
        hand
    }

    /// Saves its memory, on the disk, and ends it.
    fn standby(mut self, scratch: &Path) {
        let snapshot = snapshot(scratch);
        let _ = std::fs::remove_dir_all(&snapshot);
        std::fs::create_dir(&snapshot).expect("a directory");
        self.api.put("vm.pause", &Value::Null);
        self.api.put("vm.snapshot", &json!({"destination_url": format!("file://{}", snapshot.display())}));
        for entry in std::fs::read_dir(&snapshot).expect("the snapshot") {
            let file = std::fs::File::open(entry.expect("a file").path()).expect("open");
            file.sync_all().expect("sync");
        }
        self.api.put("vmm.shutdown", &Value::Null);
        let _ = self.process.wait();
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn snapshot(scratch: &Path) -> std::path::PathBuf {
    scratch.join("by-hand.snapshot")
}

/// Waits until the guest has printed, into a file perhaps that its VMM has truncated.
fn prints(log: &Path) {
    let before = whole(log).len();
    until("the log grows", || whole(log).len() != before);
}
