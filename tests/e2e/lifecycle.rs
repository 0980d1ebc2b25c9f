//! create, start, stop, restart, kill, wait, logs, rm.

use std::process::Stdio;

use hypeman_files::Lock;
use hypeman_record::names;
use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [QEMU, BUSYBOX]
        stop_lets_the_program_end,
        stop_forces_the_one_that_does_not,
        a_restarted_instance_keeps_its_disk_and_log,
        a_signal_by_name,
        logs_tail,
        inspect_tells_all;
    [QEMU]
        a_data_directory_200_characters_deep,
        a_removal_waits_for_one_who_starts_it_for_the_first_time,
        what_ran_when_the_host_was_rebooted_is_started_again;
}

const PATIENT: &str = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 1; done";

/// An instance that never had a shim, whose first one comes while a removal waits for its lock.
fn a_removal_waits_for_one_who_starts_it_for_the_first_time() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let vm = Guest::new(&bed, "first").create();
    let directory = vm.directory();
    let changed = Lock::acquire(&directory.join(names::LOCK)).expect("the lock of the instance");
    let removal = bed.command(&["rm", "first"]).stderr(Stdio::piped()).spawn().expect("hypeman rm");
    // proc_locks(5): an arrow is before those who wait.
    let waiter = format!(" {} ", removal.id());
    let waits = |locks: &str| locks.lines().any(|line| line.contains("->") && line.contains(&waiter));
    until("the removal waits", || waits(&std::fs::read_to_string("/proc/locks").expect("the locks")));
    let _starting = Lock::acquire(&directory.join(names::SHIM_PID)).expect("the lock of a shim");
    drop(changed);
    let outcome = removal.wait_with_output().expect("the removal");
    assert!(!outcome.status.success() && directory.join(names::RECORD).exists(), "{outcome:?}");
}

fn stop_lets_the_program_end() {
    let vm = Instance::run(bed(), "patient", &[busybox(), "sh", "-c", PATIENT]);
    let _ = vm.read_until("ready");
    bed().ok(&["stop", "-t", "60", "patient"]);
    assert_eq!(bed().ok(&["logs", "patient"]), "ready\nbye");
    let inspected = bed().inspect("patient");
    assert_eq!((&inspected["state"], &inspected["end"]["exit_code"]), (&"Stopped".into(), &4.into()));
}

fn stop_forces_the_one_that_does_not() {
    let vm = Instance::run(
        bed(),
        "deaf",
        &[busybox(), "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
    );
    let _ = vm.read_until("ready");
    bed().ok(&["stop", "-t", "1", "deaf"]);
    let inspected = bed().inspect("deaf");
    assert_eq!(
        (&inspected["end"]["reason"], &inspected["end"]["exit_code"]),
        (&"killed".into(), &137.into())
    );
}

fn a_restarted_instance_keeps_its_disk_and_log() {
    let vm = Instance::run(bed(), "twice", &[busybox(), "sh", "-c", "echo run >>/count; wc -l </count"]);
    assert_eq!(vm.wait(), 0);
    bed().ok(&["start", "twice"]);
    assert_eq!(vm.wait(), 0);
    assert_eq!(bed().ok(&["logs", "twice"]), "1\n2");
    bed().ok(&["restart", "twice"]);
    assert_eq!(vm.wait(), 0);
    assert_eq!(bed().ok(&["logs", "--tail", "1", "twice"]), "3");
}

fn a_signal_by_name() {
    let script = "trap 'echo usr1; exit 6' USR1; echo ready; while :; do sleep 1; done";
    let vm = Instance::run(bed(), "usr1", &[busybox(), "sh", "-c", script]);
    let _ = vm.read_until("ready");
    bed().ok(&["kill", "-s", "SIGUSR1", "usr1"]);
    assert_eq!(vm.wait(), 6);
    bed().fails(&["kill", "-s", "NOPE", "usr1"], &["NOPE"]);
    bed().fails(&["kill", "usr1"], &["usr1", "Stopped"]);
}

fn logs_tail() {
    let vm = Instance::run(bed(), "tail", &[busybox(), "seq", "100"]);
    assert_eq!(vm.wait(), 0);
    assert_eq!(bed().ok(&["logs", "--tail", "2", "tail"]), "99\n100");
    assert_eq!(bed().ok(&["logs", "-f", "tail"]).lines().count(), 100);
    assert!(bed().ok(&["logs", "--source", "hypeman", "tail"]).contains("the guest runs"));
    assert_eq!(bed().ok(&["logs", "--source", "vmm", "tail"]), "");
    bed().fails(&["logs", "no-such-instance"], &["no-such-instance"]);
}

/// The path of a unix socket has 108 bytes (unix(7)).
fn a_data_directory_200_characters_deep() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(&scratch.path().join("deep".repeat(25)).join("deeper".repeat(17)));
    let vm = Guest::new(&bed, "deep").lines(3).run();
    assert_eq!(vm.wait(), 0);
    assert_eq!(bed.ok(&["logs", "deep"]).lines().count(), 3);
}

fn inspect_tells_all() {
    let vm = Instance::run(bed(), "inspected", &[busybox(), "sh", "-c", PATIENT]);
    let _ = vm.read_until("ready");
    let inspected = bed().inspect("inspected");
    assert_eq!(inspected["state"], "Running");
    assert!(["kvm", "tcg"].contains(&inspected["run"]["accelerator"].as_str().expect("an accelerator")));
    for path in ["app", "vmm", "hypeman"] {
        assert!(std::path::Path::new(inspected["logs"][path].as_str().expect("a path")).is_file(), "{path}");
    }
    let id = inspected["id"].as_str().expect("an id");
    assert_eq!(bed().inspect(&id[..8])["name"], "inspected");
    assert_eq!(
        bed().ok(&["start", "inspected"]),
        "inspected",
        "what runs need not be started, as with docker"
    );
    bed().fails(&["rm", "inspected"], &["inspected", "hypeman stop"]);
}

fn what_ran_when_the_host_was_rebooted_is_started_again() {
    let data_dir = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(data_dir.path());
    let [ran, stopped] = ["ran", "stopped"].map(|name| Guest::new(&bed, name).slow().run());
    for instance in [&ran, &stopped] {
        bed.ok(&["kill", &instance.name]);
    }
    // As a host leaves it that loses its power.
    let path = ran.directory().join("run.json");
    let mut run: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("run.json")).expect("JSON");
    run["boot_id"] = "00000000-0000-0000-0000-000000000000".into();
    run["end"] = serde_json::Value::Null;
    std::fs::write(&path, run.to_string()).expect("write");
    assert_eq!(bed.ok(&["resume-all"]), ran.name);
    assert_eq!((ran.state().as_str(), stopped.state().as_str()), ("Running", "Stopped"));
    assert_eq!(bed.ok(&["resume-all"]), "");
    for instance in [&ran, &stopped] {
        bed.ok(&["rm", "-f", &instance.name]);
    }
}
