//! A fork is another machine that goes on where its source was, and touches nothing of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hypeman_tests::bed::Bed;
use hypeman_tests::ch::on_each;
use hypeman_tests::console::{assert_no_hole, whole};
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::eventually;
use testguest::check::Sequence;

use crate::promises;

promises! {
    [QEMU]
        a_fork_goes_on_where_its_source_was_and_that_goes_on_too,
        what_cannot_be_forked_is_told_and_nothing_is_left,
        a_fork_of_a_sparse_disk_is_sparse;
    [Need::CloudHypervisor] a_fork_on_cloud_hypervisor_goes_on_where_its_source_was;
    [QEMU, BUSYBOX]
        linux_goes_on_with_its_clock_right,
        a_guest_knows_when_and_who_it_is_before_anything_else_runs,
        a_copy_of_disks_boots_as_another_machine,
        ten_forks_at_once_are_ten_machines;
}

fn fork(name: &str, arguments: &[&str]) {
    let bed = bed();
    let guest = Guest::new(bed, name).with(arguments);
    let options = guest.options();
    let source = guest.run();
    source.prints();
    let forked = |as_: &str, state: &[&str]| {
        let new = format!("{name}-{as_}");
        let id = bed.ok(&[&["fork"], state, &[name, &new]].concat());
        assert_eq!(bed.inspect(&new)["id"], id.as_str());
        Instance::named(bed, &new)
    };
    let running = forked("new", &[]);
    let asleep = forked("asleep", &["--state", "standby"]);
    let stopped = forked("stopped", &["--state", "stopped"]);
    assert_eq!((asleep.state().as_str(), stopped.state().as_str()), ("Standby", "Created"));
    bed.ok(&["restore", &asleep.name]);
    bed.ok(&["start", &stopped.name]);
    for vm in [&source, &running, &asleep, &stopped] {
        assert_eq!(vm.state(), "Running");
        vm.prints();
        bed.ok(&["kill", &vm.name]);
        assert_no_hole(&vm.log());
    }
    // Each goes on where its source was: not one line is missing or doubled in any.
    let lines = |vm: &Instance, begin: usize| {
        let lines = Sequence::new(&options).check(&whole(&vm.log())[begin..]);
        lines.unwrap_or_else(|broken| panic!("{}: {broken:?}", vm.name)).start
    };
    let second_line =
        |vm: &Instance| whole(&vm.log()).iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    assert_eq!((lines(&source, 0), lines(&stopped, 0)), (0, 0));
    let (first, then) = (lines(&running, second_line(&running)), lines(&asleep, second_line(&asleep)));
    assert!(0 < first && first <= then, "{first} {then}");
}

fn a_fork_goes_on_where_its_source_was_and_that_goes_on_too() {
    fork("forks", &[]);
}

fn a_fork_on_cloud_hypervisor_goes_on_where_its_source_was() {
    on_each(|arguments| fork("forks-ch", arguments));
}

fn what_cannot_be_forked_is_told_and_nothing_is_left() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let _source = Guest::new(&bed, "source").create();
    bed.fails(&["fork", "nobody", "new"], &["nobody"]);
    bed.fails(&["fork", "source", "no name"], &["no name"]);
    bed.fails(&["fork", "source", "source"], &["source", "taken"]);
    bed.fails(&["fork", "source", "new", "--state", "standby"], &["source", "Created", "--state"]);
    assert_eq!(bed.instance_directories().len(), 1);
}

fn a_fork_of_a_sparse_disk_is_sparse() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let source = Guest::new(&bed, "sparse").create();
    let disk = std::fs::File::create(source.directory().join("disks/overlay")).expect("a disk");
    disk.set_len(50 << 30).expect("make it large");
    bed.ok(&["fork", "sparse", "fork"]);
    let fork = Instance::named(&bed, "fork");
    let copy = fork.directory().join("disks/overlay").metadata().expect("the copy");
    assert_eq!(copy.len(), 50 << 30);
    assert!(copy.blocks() < 100, "{} blocks", copy.blocks());
}

/// A program with a counter, an open file and a timer, that says who and when it is.
const COUNTER: &str = "exec 3>/open; i=0; while :; do i=$((i+1)); echo $i >&3; \
                       echo \"tick $i $(wc -l < /open) $(date +%s) $(hostname) end\"; sleep 0.1; done";

/// Returns the last whole line: number, lines in the file, time and host name.
fn last(log: &Path) -> Option<(u64, u64, u64, String)> {
    let text = String::from_utf8_lossy(&whole(log)).into_owned();
    let line = text.lines().rev().find(|line| line.ends_with(" end"))?.to_owned();
    let mut words = line.split(' ').skip(1);
    let mut number = || words.next()?.parse().ok();
    let (tick, lines, time) = (number()?, number()?, number()?);
    Some((tick, lines, time, words.next()?.to_owned()))
}

/// The ticks of a log, without a gap.
fn ticks(log: &Path) -> Vec<u64> {
    let text = String::from_utf8_lossy(&whole(log)).into_owned();
    let ticks: Vec<u64> =
        text.lines().filter_map(|line| line.split_once("tick ")?.1.split(' ').next()?.parse().ok()).collect();
    assert!(ticks.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ticks:?}");
    ticks
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs()
}

fn linux_goes_on_with_its_clock_right() {
    for (name, machine) in [("linux-sleeps", "qemu"), ("linux-sleeps-micro", "qemu-microvm")] {
        let arguments = ["--memory", "128m", "--hypervisor", machine, busybox(), "sh", "-c", COUNTER];
        let vm = Instance::run(bed(), name, &arguments);
        let log = vm.log();
        eventually("it ticks", || last(&log).filter(|(tick, ..)| *tick > 5));
        bed().ok(&["standby", name]);
        let before = last(&log).expect("a tick");
        // So long that a clock which stands still meanwhile is seen to be wrong.
        std::thread::sleep(Duration::from_secs(4));
        bed().ok(&["restore", name]);
        let after = eventually("its clock is right", || {
            last(&log).filter(|(tick, _, time, _)| *tick > before.0 && time.abs_diff(now()) <= 1)
        });
        assert_eq!((after.0, after.3), (after.1, name.to_owned()), "it has written all to its file");
        bed().ok(&["kill", name]);
        assert_eq!(ticks(&log)[0], 1);
    }
}

fn ten_forks_at_once_are_ten_machines() {
    let bed = bed();
    let arguments = ["--memory", "128m", "--disk-size", "64m", busybox(), "sh", "-c", COUNTER];
    let source = Instance::run(bed, "mother", &arguments);
    let log_of_source = source.log();
    eventually("it ticks", || last(&log_of_source).filter(|(tick, ..)| *tick > 5));
    bed.ok(&["standby", "mother"]);
    let overlay = source.directory().join("disks/overlay");
    let disk = || std::fs::read(&overlay).expect("read the disk");
    let before = (disk(), last(&log_of_source).expect("a tick").0);
    let names: Vec<String> = (0..10).map(|number| format!("daughter-{number}")).collect();
    let forks: Vec<Instance<'_>> = names.iter().map(|name| Instance::named(bed, name)).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| bed.ok(&["fork", "--state", "running", "mother", name]));
        }
    });
    let mut ids: Vec<String> = Vec::new();
    for (name, fork) in names.iter().zip(&forks) {
        let log = fork.log();
        let (tick, lines, ..) = eventually("it has its own name", || {
            last(&log).filter(|(tick, _, _, host)| *tick > before.1 && host == name)
        });
        assert_eq!(tick, lines);
        ids.push(bed.inspect(name)["id"].as_str().expect("an id").to_owned());
        bed.ok(&["kill", name]);
        assert!(ticks(&log)[0] >= before.1, "it goes on where its source was");
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), forks.len()), (10, 10));
    assert!(disk() == before.0, "the disk of the source is as it was");
    assert_eq!(bed.inspect("mother")["state"], "Standby");
    bed.ok(&["restore", "mother"]);
    eventually("it goes on too", || last(&log_of_source).filter(|(tick, ..)| *tick > before.1));
}

/// A program with a machine-id, that says when and who it is, as often as it can, and draws lots.
const WITNESS: &str = "test -e /etc/machine-id || printf '%032d\\n' 7 > /etc/machine-id; while :; do \
                       echo \"who $(date +%s) $(hostname) $(cat /etc/machine-id) $(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' ') end\"; done";

/// Returns its lines: times, names, machine-ids and lots. The first line is from before the
/// standby.
fn witnessed(log: &Path) -> Vec<(u64, String, String, String)> {
    let text = String::from_utf8_lossy(&whole(log)).into_owned();
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, time, host, id, lot, "end"] = words[..] else { return None };
        Some((time.parse().ok()?, host.to_owned(), id.to_owned(), lot.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

fn a_guest_knows_when_and_who_it_is_before_anything_else_runs() {
    for (name, machine) in [("witness", "qemu"), ("witness-micro", "qemu-microvm")] {
        let arguments = ["--memory", "128m", "--hypervisor", machine, busybox(), "sh", "-c", WITNESS];
        let source = Instance::run(bed(), name, &arguments);
        let log = source.log();
        eventually("it speaks", || (witnessed(&log).len() > 5).then_some(()));
        assert_eq!(bed().run(&["exec", name, "true"]).code, 0, "its agent is there");
        bed().ok(&["standby", name]);
        let before = witnessed(&log).len();
        let names = ["a", "b"].map(|fork| format!("{name}-{fork}"));
        for fork in &names {
            bed().ok(&["fork", "--state", "standby", name, fork]);
        }
        // So long that a clock which stands still meanwhile is seen to be wrong.
        std::thread::sleep(Duration::from_secs(3));
        let woken = now();
        let mut lots = Vec::new();
        let forks = names.iter().map(|fork| Instance::named(bed(), fork)).collect::<Vec<_>>();
        for vm in [&source, &forks[0], &forks[1]] {
            bed().ok(&["restore", &vm.name]);
            let log = vm.log();
            let old = if vm.name == name { before } else { 0 };
            eventually("it speaks again", || (witnessed(&log).len() > old + 5).then_some(()));
            bed().ok(&["kill", &vm.name]);
            let told = witnessed(&log).split_off(old);
            let id = if vm.name == name {
                format!("{:032}", 7)
            } else {
                format!("{}68797065", bed().inspect(&vm.name)["id"].as_str().expect("an id"))
            };
            for (time, host, machine_id, _) in &told[1..] {
                assert!(*time >= woken, "{time} is before {woken}, when it was woken");
                assert_eq!((host, machine_id), (&vm.name, &id));
            }
            lots.extend(told[1..].iter().map(|(.., lot)| lot.clone()));
        }
        let all = lots.len();
        lots.sort();
        lots.dedup();
        assert_eq!(lots.len(), all, "two machines have drawn the same");
    }
}

fn a_copy_of_disks_boots_as_another_machine() {
    let source = Instance::run(bed(), "disks", &["--memory", "128m", busybox(), "sh", "-c", WITNESS]);
    eventually("it speaks", || (!witnessed(&source.log()).is_empty()).then_some(()));
    bed().ok(&["exec", "disks", "sync"]);
    bed().ok(&["kill", "disks"]);
    bed().ok(&["fork", "disks", "disks-copy"]);
    let copy = Instance::named(bed(), "disks-copy");
    for vm in [&source, &copy] {
        let old = if vm.name == "disks" { witnessed(&vm.log()).len() } else { 0 };
        bed().ok(&["start", &vm.name]);
        let (_, host, id, _) = eventually("it speaks", || witnessed(&vm.log()).get(old).cloned());
        assert_eq!(host, vm.name);
        assert_eq!(id == format!("{:032}", 7), vm.name == "disks", "{id}");
    }
}
