//! Invariants of an instance: each action of its life, crossed with each invariant.

use hypeman_tests::ch::on_each;
use hypeman_tests::console::{assert_no_hole, boots, files, whole};
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{Need, QEMU};
use hypeman_tests::processes;
use hypeman_tests::vm::Instance;
use testguest::Options;
use testguest::check::Sequence;

use crate::console::wait_for_growth;
use crate::promises;

promises! {
    [QEMU] each_action_keeps_each_invariant_on_qemu;
    [Need::CloudHypervisor] each_action_keeps_each_invariant_on_cloud_hypervisor;
}

/// Does something to an instance.
type Action = fn(&Instance);
/// Fails when something is not true of an instance whose guest was told to do as the options say.
type Invariant = fn(&Instance, &Options);

/// Actions on a running instance.
const ACTIONS: [(&str, Action); 12] = [
    ("stop", |vm| command(vm, &["stop", "-t", "0"])),
    ("kill", |vm| command(vm, &["kill"])),
    ("restart", |vm| command(vm, &["restart", "-t", "0"])),
    ("start", |vm| command(vm, &["start"])),
    ("stop and start", |vm| {
        command(vm, &["stop", "-t", "0"]);
        command(vm, &["start"]);
    }),
    ("VMM killed", |vm| {
        vm.kill("vmm");
        let _ = vm.wait();
    }),
    ("VMM killed and started", |vm| {
        vm.kill("vmm");
        let _ = vm.wait();
        command(vm, &["start"]);
    }),
    ("paused and resumed", |vm| {
        command(vm, &["pause"]);
        command(vm, &["resume"]);
    }),
    ("slept and woken", |vm| {
        command(vm, &["standby"]);
        command(vm, &["restore"]);
    }),
    ("slept and given up", |vm| {
        command(vm, &["standby"]);
        command(vm, &["kill"]);
    }),
    ("shim killed", |vm| vm.kill("shim")),
    ("shim killed and stopped", |vm| {
        vm.kill("shim");
        command(vm, &["stop", "-t", "0"]);
    }),
];

/// Invariants after an action.
const INVARIANTS: [(&str, Invariant); 5] = [
    ("the log is whole", the_log_is_whole),
    ("the state is that of the processes", the_state_is_that_of_the_processes),
    ("an end is told of what has ended, and of nothing else", an_end_is_told),
    ("it can be stopped, and started again", it_can_be_started_again),
    ("it can be removed, and nothing is left", it_can_be_removed),
];

fn command(vm: &Instance, verb: &[&str]) {
    vm.bed.ok(&[verb, &[&vm.name]].concat());
}

fn each_action_keeps_each_invariant_on_qemu() {
    cross("qemu", &[]);
}

fn each_action_keeps_each_invariant_on_cloud_hypervisor() {
    on_each(|arguments| cross("ch", arguments));
}

fn cross(machine: &str, arguments: &[&str]) {
    for (action, act) in ACTIONS {
        let name = format!("{machine}-{}", action.replace(' ', "-").to_lowercase());
        let guest = Guest::new(bed(), &name).with(arguments);
        let options = guest.options();
        let vm = guest.run();
        wait_for_growth(&vm.directory().join("logs/app.log"), 1000);
        act(&vm);
        if vm.bed.inspect(&name)["state"] == "Running" {
            // A boot that printed less than its first number cannot be recognized.
            let log = vm.directory().join("logs/app.log");
            wait_for_growth(&log, whole(&log).len() as u64 + 1000);
        }
        for (invariant, check) in INVARIANTS {
            eprintln!("{machine}: after {action}: {invariant}");
            check(&vm, &options);
        }
    }
}

fn the_log_is_whole(vm: &Instance, options: &Options) {
    let log = vm.directory().join("logs/app.log");
    for file in files(&log) {
        assert_no_hole(&file);
    }
    for boot in boots(&whole(&log)) {
        let lines = Sequence::new(options).check(boot).unwrap_or_else(|broken| panic!("{broken:?}"));
        assert_eq!(lines.start, 0);
    }
}

fn the_state_is_that_of_the_processes(vm: &Instance, _: &Options) {
    let vmms = processes::inside(&vm.directory());
    let expected = usize::from(vm.bed.inspect(&vm.name)["state"] == "Running");
    assert_eq!(vmms.len(), expected, "{vmms:?}");
}

fn an_end_is_told(vm: &Instance, _: &Options) {
    let seen = vm.bed.inspect(&vm.name);
    assert_eq!(seen["end"].is_null(), seen["state"] == "Running", "{seen}");
    assert_eq!(seen["supervised"], seen["state"] == "Running", "{seen}");
}

fn it_can_be_started_again(vm: &Instance, options: &Options) {
    command(vm, &["stop", "-t", "0"]);
    command(vm, &["start"]);
    let log = vm.directory().join("logs/app.log");
    let before = whole(&log).len() as u64;
    wait_for_growth(&log, before + 1000);
    the_log_is_whole(vm, options);
}

fn it_can_be_removed(vm: &Instance, _: &Options) {
    let directory = vm.directory();
    command(vm, &["rm", "-f"]);
    assert!(!directory.exists());
    assert_eq!(processes::inside(&directory), Vec::<String>::new());
}
