//! Nothing that a VMM leaves undone ends a shim or hangs a command; what waits does so for all at
//! once.

use std::process::Stdio;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{bed, testguest};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{Need, QEMU};
use hypeman_tests::vm::Instance;
use rustix::process::{Pid, Signal, kill_process};
use testguest::{Finish, Options};

use crate::promises;

promises! {
    [QEMU]
        a_silent_vmm_is_asked_and_ended,
        a_bare_guest_that_halts_ends_its_vm,
        several_are_stopped_at_once,
        a_restart_and_a_start_at_once;
}

/// A guest that says a line and waits for input for ever.
fn quiet<'a>(bed: &'a Bed, name: &str) -> Instance<'a> {
    let vm = Guest::new(bed, name).quiet().run();
    let _ = vm.read_until("0000000000 ");
    vm
}

fn signal(vm: &Instance, signal: Signal) {
    let pid = i32::try_from(vm.pid("vmm")).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("signal the VMM");
}

fn a_silent_vmm_is_asked_and_ended() {
    let vm = quiet(bed(), "silent");
    let shim = vm.pid("shim");
    signal(&vm, Signal::STOP);
    // More often than the VMM may have requests in flight.
    for _ in 0..20 {
        assert_eq!(bed().inspect("silent")["supervised"], true);
    }
    signal(&vm, Signal::CONT);
    assert_eq!((vm.pid("shim"), bed().inspect("silent")["state"].as_str()), (shim, Some("Running")));
    // Requests from while it was silent have been answered, each by its own answer.
    signal(&vm, Signal::STOP);
    bed().ok(&["stop", "-t", "0", "silent"]);
    let end = &bed().inspect("silent")["end"];
    assert_eq!((&end["reason"], &end["exit_code"]), (&"killed".into(), &137.into()));
}

fn a_bare_guest_that_halts_ends_its_vm() {
    let mut accelerators = vec!["tcg"];
    match Need::QemuKvm.lacking() {
        None => accelerators.push("kvm"),
        Some(lacking) => eprintln!("SKIPPED on KVM: {lacking}"),
    }
    let cmdline = Options { count: 5, finish: Finish::Halt, ..Options::default() }.to_string();
    for accelerator in accelerators {
        let name = format!("halts-{accelerator}");
        let arguments =
            ["--accel", accelerator, "--kernel", testguest(), "--memory", "32m", "--cmdline", &cmdline];
        let vm = Instance::run(bed(), &name, &arguments);
        assert_eq!(vm.wait(), 0);
        assert_eq!(bed().inspect(&name)["end"]["reason"], "guest-shutdown");
        assert_eq!(bed().ok(&["logs", &name]).lines().count(), 5);
    }
}

fn several_are_stopped_at_once() {
    let names = ["stop-1", "stop-2", "stop-3"];
    let _vms = names.map(|name| quiet(bed(), name));
    assert_eq!(bed().ok(&[&["stop", "-t", "2"], &names[..]].concat()), names.join("\n"));
    // Each was asked before the first was ended by force.
    let times = |word: &str| -> Vec<String> {
        let line = |name: &str| {
            let log = bed().ok(&["logs", "--source", "hypeman", name]);
            log.lines().find(|line| line.contains(word)).expect("a line").to_owned()
        };
        names.map(|name| line(name)[..24].to_owned()).to_vec()
    };
    let (asked, forced) = (times("pressing the power button"), times("by force"));
    assert!(asked.iter().max() < forced.iter().min(), "{asked:?} {forced:?}");
    bed().fails(&["kill", "stop-1", "no-such-instance"], &["stop-1", "no-such-instance"]);
}

fn a_restart_and_a_start_at_once() {
    let vm = quiet(bed(), "raced");
    for _ in 0..5 {
        bed().ok(&["stop", "-t", "0", "raced"]);
        let spawn = |command: &[&str]| {
            bed().command(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("hypeman")
        };
        let both = [spawn(&["restart", "-t", "0", "raced"]), spawn(&["start", "raced"])];
        let [restart, start] = both.map(|child| child.wait_with_output().expect("its end"));
        assert!(restart.status.success(), "{restart:?}");
        let words = String::from_utf8_lossy(&start.stderr).into_owned();
        // The restart's stop may come while the start is under way, and ends it as it would end
        // what runs.
        assert!(start.status.success() || words.contains("ended while it was being started"), "{start:?}");
        assert_eq!(bed().inspect("raced")["state"], "Running");
    }
    drop(vm);
}
