//! A part that hangs, fills up or dies keeps nobody from ending a VM, and nobody else from their
//! work.

use std::process::{Child, Stdio};
use std::time::Duration;

use hypeman_tests::bed::{Bed, Outcome};
use hypeman_tests::console::whole;
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::processes;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{eventually, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::promises;

promises! {
    [QEMU]
        a_kill_goes_before_a_stop,
        of_two_who_stop_both_are_told,
        a_shim_that_does_not_answer_hangs_nobody,
        sixty_shims_killed_while_they_start_leave_no_vmm_unknown;
    [QEMU, Need::Root]
        a_kill_goes_before_a_stop_on_a_full_disk,
        a_start_waits_for_a_vm_that_is_about_to_end;
    [QEMU, BUSYBOX, Need::Root]
        a_vm_whose_disk_has_no_room_says_so_and_goes_on_when_there_is;
}

/// A command of hypeman's that is under way.
fn begin(bed: &Bed, arguments: &[&str]) -> Child {
    let mut command = bed.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hypeman")
}

/// A stop that gives the guest ten minutes, which it does not listen to.
fn long_stop(bed: &Bed, name: &str) -> Child {
    let stop = begin(bed, &["stop", "-t", "600", name]);
    until("the stop is under way", || {
        bed.inspect(name)["state_reason"].as_str().is_some_and(|reason| reason.contains("being stopped"))
    });
    stop
}

fn outcome(child: Child) -> Outcome {
    child.wait_with_output().expect("its end").into()
}

fn a_kill_goes_before_a_stop() {
    for verb in [&["kill"][..], &["rm", "-f"]] {
        let vm = Guest::new(bed(), "kill-first").quiet().run();
        let _ = vm.read_until("0000000000 ");
        let stop = long_stop(bed(), "kill-first");
        bed().ok(&[verb, &["kill-first"]].concat());
        let stopped = outcome(stop);
        assert_eq!(stopped.code, 0, "{verb:?}: {stopped:?}");
        assert!(stopped.stderr.contains("by force, as asked"), "{verb:?}: {stopped:?}");
        if verb == ["kill"] {
            assert_eq!(bed().inspect("kill-first")["end"]["reason"], "killed");
            bed().ok(&["stop", "kill-first"]); // what is stopped need not be
            bed().fails(&["kill", "kill-first"], &["kill-first", "Stopped"]);
        }
    }
}

fn a_kill_goes_before_a_stop_on_a_full_disk() {
    for verb in [&["kill"][..], &["rm", "-f"]] {
        let disk = SmallDisk::new("1m");
        let bed = Bed::new(&disk.path().join("data"));
        let guest = Guest::new(&bed, "full");
        let options = guest.options();
        let vm = guest.run();
        until("the disk is full", || disk.is_full());
        let stop = long_stop(&bed, "full");
        let ended = bed.run(&[verb, &["full"]].concat());
        let stopped = outcome(stop);
        assert_eq!((ended.code, stopped.code), (0, 0), "{verb:?}: {ended:?}, {stopped:?}");
        assert!(stopped.stderr.contains("by force, as asked"), "{verb:?}: {stopped:?}");
        if verb == ["kill"] {
            assert!(ended.stderr.contains("is still being written"), "{ended:?}");
            assert_eq!(bed.inspect("full")["state"], "Shutdown");
            bed.fails(&["start", "full"], &["full", "Shutdown"]);
            disk.resize("20m");
            assert_eq!(vm.wait(), 137);
            let log = whole(&vm.directory().join("logs/app.log"));
            let lines = testguest::check::Sequence::new(&options).check(&log);
            assert_eq!(lines.unwrap_or_else(|broken| panic!("{broken:?}")).start, 0);
        } else {
            assert_eq!(bed.instance_directories(), Vec::<String>::new());
        }
    }
}

fn a_start_waits_for_a_vm_that_is_about_to_end() {
    let disk = SmallDisk::new("1m");
    let bed = Bed::new(&disk.path().join("data"));
    let vm = Guest::new(&bed, "ending").run();
    until("the disk is full", || disk.is_full());
    bed.ok(&["kill", "ending"]);
    assert_eq!(vm.state(), "Shutdown");
    let start = begin(&bed, &["start", "ending"]);
    disk.resize("20m");
    let started = outcome(start);
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(vm.state(), "Running");
}

fn of_two_who_stop_both_are_told() {
    let vm = Guest::new(bed(), "two-stops").quiet().run();
    let _ = vm.read_until("0000000000 ");
    let patient = long_stop(bed(), "two-stops");
    let impatient = begin(bed(), &["stop", "-t", "0", "two-stops"]);
    for stop in [patient, impatient] {
        let stopped = outcome(stop);
        assert!(stopped.code == 0 && stopped.stderr.contains("did not end in time"), "{stopped:?}");
    }
    assert_eq!(vm.wait(), 137);
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("signal");
}

fn a_shim_that_does_not_answer_hangs_nobody() {
    let mute: Vec<Instance> =
        ["mute-1", "mute-2", "mute-3"].map(|name| Guest::new(bed(), name).quiet().run()).into();
    let well = Guest::new(bed(), "well").quiet().run();
    let pids: Vec<(u32, u32)> = mute.iter().map(|vm| (vm.pid("shim"), vm.pid("vmm"))).collect();
    for (shim, _) in &pids {
        signal(*shim, Signal::STOP);
    }
    let listed = bed().ok(&["ps", "--format", "json"]);
    let row = |name: &str| {
        let row = listed.lines().find(|line| line.contains(&format!("\"{name}\""))).expect("a row");
        serde_json::from_str::<serde_json::Value>(row).expect("JSON")
    };
    for vm in &mute {
        let row = row(&vm.name);
        assert_eq!(row["state"], "Unknown", "{row}");
        assert!(row["state_reason"].as_str().expect("a reason").contains("does not answer"), "{row}");
    }
    assert_eq!(row("well")["state"], "Running");
    bed().fails(&["stop", "mute-1"], &["mute-1", "does not answer", "hypeman rm -f mute-1"]);
    // A kill ends the VM by its process, and says what it does not know.
    bed().fails(&["kill", "mute-1"], &["mute-1", "does not answer"]);
    assert!(!processes::is_alive(pids[0].1), "its VMM has ended");
    signal(pids[0].0, Signal::CONT);
    assert_eq!(mute[0].wait(), 137);
    bed().ok(&["rm", "-f", "mute-1", "mute-2", "mute-3"]);
    for (shim, vmm) in pids {
        assert!(!processes::is_alive(shim) && !processes::is_alive(vmm));
    }
    assert_eq!(bed().inspect(&well.name)["state"], "Running");
}

/// At moments from before the shim has begun to after the guest runs: half of them counted from the
/// shim's start, half from its VMM's.
fn sixty_shims_killed_while_they_start_leave_no_vmm_unknown() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let vm = Guest::new(&bed, "killed").create();
    let directory = vm.directory();
    let mut left = 0;
    for round in 0..60_u64 {
        let start = begin(&bed, &["start", "killed"]);
        // The shim has the CLI for its parent until it ends, and its VMM is its own child.
        if let Some(shim) = wait_for_child(start.id()) {
            if round % 2 == 1 {
                wait_for_child(shim.as_raw_nonzero().get().unsigned_abs());
            }
            std::thread::sleep(Duration::from_micros(round * round * 12));
            let _ = kill_process(shim, Signal::KILL); // it may have ended: the start went wrong
        }
        let _ = outcome(start);
        let vmms = processes::inside(&directory);
        let seen = bed.inspect("killed");
        let is_known = !matches!(seen["state"].as_str(), Some("Created" | "Stopped"));
        // A process that is being forked or is dying may be in one list and not in the other.
        assert!(
            vmms.is_empty() || is_known || processes::inside(&directory).is_empty(),
            "{vmms:?} and {seen}"
        );
        left += usize::from(is_known);
        match round % 3 {
            0 => bed.ok(&["stop", "killed"]),
            1 if is_known => bed.ok(&["kill", "killed"]),
            _ => bed.ok(&["stop", "-t", "0", "killed"]),
        };
        assert_eq!(processes::inside(&directory), Vec::<String>::new(), "round {round}: {seen}");
    }
    assert!(left > 0, "some of the moments lay behind the VMM's start");
    bed.ok(&["start", "killed"]);
    assert!(!vm.read_until("0000000003 ").is_empty());
}

/// The first child of a process; `None` when it ends without one.
fn wait_for_child(pid: u32) -> Option<Pid> {
    eventually("a process is started", || {
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let child = children.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
        match child.and_then(Pid::from_raw) {
            Some(child) => Some(Some(child)),
            None => (!processes::is_alive(pid)).then_some(None),
        }
    })
}

/// The directory of the instances is a small disk of its own; kernels and images are the other
/// tests'.
fn a_vm_whose_disk_has_no_room_says_so_and_goes_on_when_there_is() {
    let image = busybox();
    let scratch = tempfile::tempdir().expect("a directory");
    for name in ["kernels", "images"] {
        std::os::unix::fs::symlink(bed().data_dir.join(name), scratch.path().join(name)).expect("a link");
    }
    let disk = SmallDisk::at(&scratch.path().join("instances"), "32m");
    let bed = Bed::new(scratch.path());
    let script = "dd if=/dev/zero of=/fill bs=1M count=48 2>/dev/null; sync; echo written; sleep 1000";
    let vm = Instance::run(&bed, "no-room", &["--disk-size", "200m", image, "sh", "-c", script]);
    let told = eventually("it is paused", || {
        let seen = bed.inspect("no-room");
        (seen["state"] == "Paused").then_some(seen)
    });
    assert!(told["state_reason"].as_str().expect("a reason").contains("disk is full"), "{told}");
    assert!(bed.ok(&["ps"]).contains("Paused"));
    disk.resize("200m");
    let _ = vm.read_until("written");
    assert_eq!(bed.inspect("no-room")["state"], "Running");
    let journal = bed.ok(&["logs", "--source", "hypeman", "no-room"]);
    assert!(journal.contains("disk is full") && journal.contains("the VM goes on"), "{journal}");
}
