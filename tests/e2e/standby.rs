//! A VM that is put to standby goes on where it was, and its console reads on as if nothing had
//! happened.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use hypeman_tests::bed::{Bed, Outcome};
use hypeman_tests::ch::on_each;
use hypeman_tests::console::{assert_no_hole, assert_whole, boots, files, whole};
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::processes;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{DEADLINE, until, within};
use rustix::fs::FallocateFlags;
use rustix::process::{Pid, Signal, kill_process};

use testguest::check::Sequence;

use crate::promises;

promises! {
    [QEMU]
        fifty_sleeps_in_full_output_lose_and_double_nothing,
        a_microvm_sleeps_too,
        what_holds_already_is_no_error_and_what_cannot_be_is_told,
        what_was_given_up_can_be_started_anew,
        a_damaged_snapshot_is_told_and_stays,
        a_snapshot_of_another_release_or_of_a_changed_disk_is_refused,
        whoever_is_killed_on_the_way_the_vm_runs_or_sleeps,
        a_stop_or_a_kill_goes_before_a_standby,
        a_vmm_that_dies_on_the_way_has_ended,
        two_who_put_it_to_standby_at_once;
    [QEMU, BUSYBOX] a_kill_on_the_way_is_carried_out_also_when_its_asker_is_gone;
    [Need::CloudHypervisor]
        fifty_sleeps_on_cloud_hypervisor_lose_and_double_nothing,
        whoever_is_killed_on_the_way_the_vm_on_cloud_hypervisor_runs_or_sleeps;
    [QEMU, Need::Root] a_full_disk_leaves_the_vm_running;
}

/// Puts it to standby and restores it, again and again, in full output.
fn sleep(name: &str, rounds: u64, arguments: &[&str]) {
    let bed = bed();
    let guest = Guest::new(bed, name).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    let (directory, log) = (vm.directory(), vm.log());
    for round in 0..rounds {
        vm.prints();
        bed.ok(&["standby", name]);
        assert_eq!(vm.state(), "Standby", "round {round}");
        assert_eq!(processes::inside(&directory), Vec::<String>::new());
        assert_whole(&log, &options);
        bed.ok(&["restore", name]);
        assert_eq!(vm.state(), "Running", "round {round}");
    }
    vm.prints();
    bed.ok(&["kill", name]);
    assert_whole(&log, &options);
}

fn fifty_sleeps_in_full_output_lose_and_double_nothing() {
    sleep("sleeps", 50, &["--log-max-size", "200k", "--log-max-files", "1000"]);
}

fn fifty_sleeps_on_cloud_hypervisor_lose_and_double_nothing() {
    on_each(|arguments| sleep("sleeps-ch", 50, arguments));
}

/// Kills the command or the shim at moments that are spread over a standby, or a restore.
fn kill_on_the_way(name: &str, arguments: &[&str]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let guest = Guest::new(&bed, name).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    let (directory, log) = (vm.directory(), vm.log());
    let journal = || ["hypeman", "vmm"].map(|source| bed.ok(&["logs", "--source", source, name])).join("\n");
    let mut ended = [0, 0];
    for round in 0..50_u64 {
        if vm.state() == "Running" {
            vm.prints();
        }
        let verb = if vm.state() == "Running" { "standby" } else { "restore" };
        let mut command = bed
            .command(&[verb, name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a command");
        std::thread::sleep(Duration::from_micros(round * 2311 % 80_000));
        if round % 4 == 0 {
            let _ = command.kill();
        } else if let Some(shim) = processes::shim(&directory) {
            let _ = kill_process(shim, Signal::KILL);
        }
        let _ = command.wait();
        let come_to_rest = within(DEADLINE, || {
            let state = vm.state();
            let on_the_way = ["Running", "Standby", "Paused", "Initializing", "Shutdown"];
            assert!(on_the_way.contains(&&*state), "{state}: {}", journal());
            ["Running", "Standby"].contains(&&*state).then_some(())
        });
        assert!(come_to_rest.is_some(), "it stays {} after round {round}: {}", bed.inspect(name), journal());
        ended[usize::from(vm.state() == "Standby")] += 1;
    }
    assert!(ended.iter().all(|&times| times > 5), "of both there was some: {ended:?}");
    bed.ok(&["restore", name]);
    vm.prints();
    bed.ok(&["kill", name]);
    files(&log).iter().for_each(|file| assert_no_hole(file));
    let lines = Sequence::new(&options).check(&whole(&log));
    assert!(lines.as_ref().is_ok_and(|lines| lines.start == 0), "{lines:?} {arguments:?}: {}", journal());
    for left in ["snapshot", "snapshot.new", "snapshot.used"] {
        assert!(!directory.join(left).exists(), "{left}");
    }
}

fn whoever_is_killed_on_the_way_the_vm_runs_or_sleeps() {
    kill_on_the_way("sleep-kills", &[]);
}

fn whoever_is_killed_on_the_way_the_vm_on_cloud_hypervisor_runs_or_sleeps() {
    on_each(|arguments| kill_on_the_way("sleep-kills", arguments));
}

fn a_stop_or_a_kill_goes_before_a_standby() {
    for (verb, code) in [(&["stop", "-t", "0"][..], 137), (&["kill"][..], 137)] {
        let name = format!("sleep-{}", verb[0]);
        let vm = Guest::new(bed(), &name).run();
        vm.prints();
        let mut standby = bed().command(&["standby", &name]).stderr(Stdio::null()).spawn().expect("standby");
        let outcome = bed().run(&[verb, &[&*name]].concat());
        let _ = standby.wait();
        // On a busy disk what it has printed may still be on its way.
        until("it has ended or sleeps", || ["Stopped", "Standby"].contains(&&*vm.state()));
        let seen = bed().inspect(&name);
        match seen["state"].as_str() {
            Some("Stopped") => assert_eq!(seen["end"]["exit_code"], code),
            // The snapshot was whole before.
            Some("Standby") => assert!(verb[0] == "stop" || outcome.code == 0, "{outcome:?}"),
            _ => panic!("{seen}"),
        }
    }
}

fn a_kill_on_the_way_is_carried_out_also_when_its_asker_is_gone() {
    let name = "sleep-killed";
    let vm = Instance::idle(bed(), name, &["--memory", "256m"]);
    for _ in 0..20 {
        bed().ok(&["wait", "--for", "running", name]);
        let mut standby = bed().command(&["standby", name]).stderr(Stdio::null()).spawn().expect("standby");
        let new = vm.directory().join("snapshot.new");
        let _ = within(DEADLINE, || (new.exists() || vm.state() == "Standby").then_some(()));
        if let Ok(mut shim) = UnixStream::connect(vm.directory().join("shim.sock")) {
            let _ = shim.write_all(b"{\"op\":\"kill\"}\n"); // it may have ended
        }
        let _ = standby.wait();
        until("it has ended or sleeps", || ["Stopped", "Standby"].contains(&&*vm.state()));
        let journal = std::fs::read_to_string(vm.directory().join("logs/hypeman.log")).expect("hypeman.log");
        if journal.contains("it was given up for another request") {
            assert_eq!(vm.state(), "Stopped");
            return;
        }
        bed().ok(&[if vm.state() == "Standby" { "restore" } else { "start" }, name]);
    }
    panic!("no kill came while the snapshot was being written");
}

fn a_vmm_that_dies_on_the_way_has_ended() {
    let name = "sleep-dies";
    let guest = Guest::new(bed(), name);
    let options = guest.options();
    let vm = guest.run();
    for round in 0..20 {
        vm.prints();
        let vmm = vm.pid("vmm");
        let mut standby =
            bed().command(&["standby", name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        std::thread::sleep(Duration::from_millis(round));
        let vmm = i32::try_from(vmm).ok().and_then(Pid::from_raw).expect("a pid");
        let _ = kill_process(vmm, Signal::KILL);
        let _ = standby.as_mut().expect("standby").wait();
        until("it has ended or sleeps", || ["Stopped", "Standby"].contains(&&*vm.state()));
        for boot in boots(&whole(&vm.log())) {
            let lines = Sequence::new(&options).check(boot);
            assert_eq!(lines.unwrap_or_else(|broken| panic!("{broken:?}")).start, 0);
        }
        bed().ok(&[if vm.state() == "Standby" { "restore" } else { "start" }, name]);
    }
}

fn two_who_put_it_to_standby_at_once() {
    let name = "sleep-twice";
    let guest = Guest::new(bed(), name);
    let options = guest.options();
    let vm = guest.run();
    vm.prints();
    let spawn = || bed().command(&["standby", name]).stderr(Stdio::piped()).spawn().expect("standby");
    let outcomes = [spawn(), spawn()].map(|child| Outcome::from(child.wait_with_output().expect("its end")));
    assert!(outcomes.iter().any(|outcome| outcome.code == 0), "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| outcome.code != 0) {
        assert!(outcome.stderr.contains(name), "{outcome:?}");
    }
    assert_eq!(vm.state(), "Standby");
    bed().ok(&["restore", name]);
    vm.prints();
    bed().ok(&["kill", name]);
    assert_whole(&vm.log(), &options);
}

fn a_full_disk_leaves_the_vm_running() {
    let disk = SmallDisk::new("100m");
    let bed = Bed::new(&disk.path().join("data"));
    let name = "sleep-full";
    // Slow, so that its log does not fill the room that is left for it.
    let guest = Guest::new(&bed, name).slow();
    let options = guest.options();
    let vm = guest.run();
    let log = vm.log();
    vm.prints();
    // Room for the log, but not for the memory.
    let filler = disk.path().join("filler");
    let file = std::fs::File::create(&filler).expect("a file");
    let free = rustix::fs::statvfs(disk.path()).expect("statvfs");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, (free.f_bavail - 50) * free.f_frsize)
        .expect("fill it");
    drop(file);
    bed.fails(&["standby", name], &[name, "standby failed", "No space left"]);
    assert_eq!(vm.state(), "Running");
    assert!(!vm.directory().join("snapshot.new").exists());
    vm.prints();
    std::fs::remove_file(&filler).expect("make room");
    bed.ok(&["standby", name]);
    bed.ok(&["restore", name]);
    vm.prints();
    bed.ok(&["kill", name]);
    assert_whole(&log, &options);
}

fn a_microvm_sleeps_too() {
    sleep("sleeps-micro", 5, &["--hypervisor", "qemu-microvm"]);
}

fn what_holds_already_is_no_error_and_what_cannot_be_is_told() {
    let name = "sleep-states";
    let vm = Guest::new(bed(), name).create();
    bed().fails(&["standby", name], &[name, "Created", "hypeman start"]);
    bed().fails(&["restore", name], &[name, "Created", "hypeman standby"]);
    bed().ok(&["start", name]);
    bed().ok(&["restore", name]); // it runs already
    for _ in 0..2 {
        bed().ok(&["standby", name]);
    }
    bed().fails(&["start", name], &[name, "Standby", "hypeman restore", "hypeman kill"]);
    bed().fails(&["stop", name], &[name, "Standby", "hypeman restore", "hypeman kill"]);
    bed().fails(&["pause", name], &[name, "Standby", "hypeman restore"]);
    bed().fails(&["wait", name], &[name, "Standby", "hypeman restore"]);
    assert!(bed().ok(&["ps", "-a"]).contains("Standby for "));
    bed().ok(&["restore", name]);
    bed().ok(&["stop", "-t", "0", name]);
    bed().fails(&["standby", name], &[name, "Stopped"]);
    assert!(!vm.directory().join("snapshot").exists());
}

fn what_was_given_up_can_be_started_anew() {
    let name = "sleep-given-up";
    let vm = Guest::new(bed(), name).run();
    bed().ok(&["standby", name]);
    bed().ok(&["kill", name]);
    let seen = bed().inspect(name);
    assert_eq!((&seen["state"], &seen["end"]["reason"]), (&"Stopped".into(), &"killed".into()));
    bed().ok(&["start", name]);
    bed().ok(&["standby", name]);
    let directory = vm.directory();
    bed().ok(&["rm", name]);
    assert!(!directory.exists());
}

fn a_damaged_snapshot_is_told_and_stays() {
    let name = "sleep-damaged";
    let guest = Guest::new(bed(), name);
    let options = guest.options();
    let vm = guest.run();
    vm.prints();
    bed().ok(&["standby", name]);
    let memory = vm.directory().join("snapshot/memory");
    let good = std::fs::read(&memory).expect("the memory");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&memory, bad).expect("damage it");
    bed().fails(&["restore", name], &[name, "memory is damaged", "stays in standby"]);
    assert_eq!(vm.state(), "Standby");
    std::fs::write(&memory, &good[..good.len() - 1]).expect("cut it");
    bed().fails(&["restore", name], &[name, "memory is damaged", "hypeman kill"]);
    std::fs::remove_file(&memory).expect("remove it");
    bed().fails(&["restore", name], &[name, "memory is missing", "hypeman kill"]);
    assert_eq!(processes::inside(&vm.directory()), Vec::<String>::new());
    std::fs::write(&memory, good).expect("mend it");
    bed().ok(&["restore", name]);
    vm.prints();
    bed().ok(&["kill", name]);
    assert_whole(&vm.log(), &options);
}

fn a_snapshot_of_another_release_or_of_a_changed_disk_is_refused() {
    let name = "sleep-unfit";
    let vm = Guest::new(bed(), name).run();
    bed().ok(&["standby", name]);
    let manifest = vm.directory().join("snapshot/snapshot.json");
    let text = std::fs::read_to_string(&manifest).expect("the manifest");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let version = value["launch"]["found"]["version"].as_str().expect("a version");
    std::fs::write(&manifest, text.replace(version, "1.2.3")).expect("write");
    bed().fails(&["restore", name], &[name, "1.2.3", version, "hypeman kill"]);
    let mut changed = value.clone();
    changed["disks"] = serde_json::json!([{"path": "launch.json", "size": 1, "modified": [1, 1]}]);
    std::fs::write(&manifest, changed.to_string()).expect("write");
    bed().fails(&["restore", name], &[name, "launch.json", "changed", "hypeman kill"]);
    assert_eq!(vm.state(), "Standby");
    std::fs::write(&manifest, text).expect("write");
    bed().ok(&["restore", name]);
}
