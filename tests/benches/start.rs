//! From `hypeman run` to the VMM's process and to the guest's first byte on disk, beside starting
//! the same QEMU by hand on the same test guest; and what a shim weighs while it captures. Prints a
//! table for docs/performance.md.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::measure::pss;
use hypeman_tests::needs::{Need, QEMU, find, qemu_on_kvm};
use hypeman_tests::processes;
use hypeman_tests::vm::Instance;
use testguest::Options;

/// Rounds of each in turn. A start takes 7 ms more or less than the one before, so it takes some to
/// see what is ours of it.
const ROUNDS: usize = 60;

/// The same with KVM, where a start takes seconds on a host that is a virtual machine itself.
const ROUNDS_WITH_KVM: usize = 20;

/// Times of one start.
struct Times {
    process: Duration,
    first_byte: Duration,
}

fn main() {
    if let Some(lacking) = QEMU.lacking() {
        println!("SKIPPED start: {lacking}");
        return;
    }
    let mut accelerators = vec!["tcg"];
    match Need::QemuKvm.lacking() {
        None => accelerators.push("kvm"),
        Some(lacking) => println!("SKIPPED start with KVM: {lacking}\n"),
    }
    println!(
        "| start, median of {ROUNDS} (tcg) and {ROUNDS_WITH_KVM} (kvm) | by hand | hypeman run -d | ratio | of it for confinement |\n|---|---|---|---|---|"
    );
    for accel in accelerators {
        let scratch = tempfile::tempdir().expect("a directory");
        let bed = Bed::new(scratch.path());
        // One after the other in turn, so that both meet the same weather.
        let (mut hand, mut ours, mut unconfined) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..if accel == "kvm" { ROUNDS_WITH_KVM } else { ROUNDS } {
            hand.push(by_hand(scratch.path(), accel));
            ours.push(by_hypeman(&bed, accel, round, "auto"));
            unconfined.push(by_hypeman(&bed, accel, round, "off"));
        }
        row(&format!("to the VMM's process ({accel})"), [&hand, &ours, &unconfined], |times| times.process);
        row(&format!("to the first byte on disk ({accel})"), [&hand, &ours, &unconfined], |times| {
            times.first_byte
        });
    }
    weight();
}

fn row(name: &str, series: [&[Times]; 3], pick: impl Fn(&Times) -> Duration) {
    let [hand, ours, unconfined] = series.map(|times| {
        let mut sorted: Vec<Duration> = times.iter().map(&pick).collect();
        sorted.sort();
        sorted[sorted.len() / 2].as_secs_f64() * 1000.0
    });
    println!("| {name} | {hand:.1} ms | {ours:.1} ms | {:.2} | {:+.1} ms |", ours / hand, ours - unconfined);
}

fn cmdline() -> String {
    Options { count: 0, ..Options::default() }.to_string()
}

fn by_hand(scratch: &Path, accel: &str) -> Times {
    let out = scratch.join("by-hand.log");
    let _ = std::fs::remove_file(&out);
    let begin = Instant::now();
    let mut qemu = Command::new(find("qemu-system-x86_64").expect("QEMU"))
        .args(["-machine", "q35", "-accel", accel, "-cpu", &cpu(accel)])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-m",
            "32",
            "-kernel",
            testguest(),
            "-append",
        ])
        .arg(cmdline())
        .arg("-serial")
        .arg(format!("file:{}", out.display()))
        .stderr(Stdio::null())
        .spawn()
        .expect("QEMU");
    let process = begin.elapsed();
    wait_for_byte(&out, || qemu.try_wait().expect("QEMU").is_none());
    let first_byte = begin.elapsed();
    end(&mut qemu);
    Times { process, first_byte }
}

fn by_hypeman(bed: &Bed, accel: &str, round: usize, confine: &str) -> Times {
    let name = format!("start-{accel}-{round}-{confine}");
    let cmdline = cmdline();
    let arguments = [
        "run",
        "-d",
        "--name",
        &name,
        "--accel",
        accel,
        "--confine",
        confine,
        "--memory",
        "32m",
        "--kernel",
        testguest(),
        "--cmdline",
        &cmdline,
    ];
    let begin = Instant::now();
    let mut cli = bed.command(&arguments).stdout(Stdio::null()).spawn().expect("hypeman run");
    while !has_descendant(cli.id(), "qemu-system") {
        assert!(cli.try_wait().expect("hypeman run").is_none(), "hypeman run ended before there was a VMM");
        // Polling without a pause takes one of two processors from what is measured.
        std::thread::sleep(Duration::from_micros(50));
    }
    let process = begin.elapsed();
    let _instance = Instance { bed, name };
    let logs = instances(bed);
    // A `hypeman run -d` that fails has ended with an error; one that succeeds leaves the VM
    // running.
    let mut runs = || cli.try_wait().expect("hypeman run").is_none_or(|status| status.success());
    wait_for_byte(&logs.join("logs/app.log"), &mut runs);
    let first_byte = begin.elapsed();
    assert!(cli.wait().expect("hypeman run").success());
    Times { process, first_byte }
}

/// The directory of the only instance.
fn instances(bed: &Bed) -> std::path::PathBuf {
    let names = bed.instance_directories();
    bed.data_dir.join("instances").join(&names[0])
}

/// Whether a process below `pid` has this name.
fn has_descendant(pid: u32, name: &str) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).any(|child: u32| {
        let comm = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        comm.starts_with(name) || has_descendant(child, name)
    })
}

/// Waits for the first byte in a file as long as what writes it `runs`; a guest that prints nothing
/// in a minute never will.
fn wait_for_byte(file: &Path, mut runs: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
        assert!(runs(), "it ended before the guest printed anything");
        assert!(Instant::now() < deadline, "the guest prints nothing");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The CPU that hypeman gives its VMs, so that both start the same.
fn cpu(accel: &str) -> String {
    let left_out = if accel == "kvm" {
        qemu_on_kvm().as_ref().map(|features| &features.left_out[..])
    } else {
        Ok(&[][..])
    };
    left_out.unwrap_or_default().iter().fold("max".to_owned(), |cpu, feature| format!("{cpu},-{feature}"))
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Memory of a shim that captures at full speed, its proportional set size; and when it was asked
/// something besides.
fn weight() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let cmdline = cmdline();
    let vm =
        Instance::run(&bed, "weight", &["--memory", "32m", "--kernel", testguest(), "--cmdline", &cmdline]);
    std::thread::sleep(Duration::from_secs(2));
    // Not by a question, which would weigh as well.
    let shim = processes::shim(&instances(&bed)).expect("a shim").as_raw_nonzero().get().unsigned_abs();
    let before = pss(shim);
    let _ = bed.inspect(&vm.name);
    println!("\nA shim that captures at full speed: Pss {before} kB; after a question {} kB", pss(shim));
}
