//! A shim that is killed costs nothing: the next command gives its VM another, and the console
//! reads on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::ch::on_each;
use hypeman_tests::console::{assert_whole, whole};
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::processes::is_alive;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use testguest::check::Sequence;

use crate::console::wait_for_growth;
use crate::promises;

promises! {
    [QEMU]
        thirty_kills_in_full_output_lose_and_double_nothing,
        a_copytruncate_between_kill_and_adoption_loses_nothing,
        twenty_commands_at_once_adopt_once,
        a_follower_goes_on_over_an_adoption,
        what_ended_while_nobody_was_there_shows_so,
        twenty_upgrades_in_full_output_lose_nothing,
        an_upgrade_of_all_is_one_of_those_with_another_program;
    [QEMU, Need::Root]
        a_kill_on_a_full_disk_loses_nothing;
    [QEMU, BUSYBOX]
        a_foreground_run_goes_on_over_an_adoption,
        the_end_of_a_program_is_told_after_an_adoption;
    [Need::CloudHypervisor, Need::Root]
        a_copytruncate_on_cloud_hypervisor_loses_nothing,
        a_kill_on_a_full_disk_on_cloud_hypervisor_loses_nothing,
        thirty_kills_on_cloud_hypervisor_lose_and_double_nothing,
        twenty_upgrades_on_cloud_hypervisor_lose_nothing;
}

/// The shim's pid, as it stands on disk: to ask a command would give the VM another shim.
fn shim(directory: &Path) -> u32 {
    let text = std::fs::read_to_string(directory.join("shim.pid")).expect("shim.pid");
    text.lines().next().expect("a line").parse().expect("a pid")
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::KILL).expect("kill -9");
}

fn kill_shim(directory: &Path) -> u32 {
    let pid = shim(directory);
    kill(pid);
    until("the shim is gone", || !is_alive(pid));
    pid
}

/// Commands that look at an instance.
const COMMANDS: [&[&str]; 7] = [
    &["ps"],
    &["inspect", "NAME"],
    &["logs", "--tail", "1", "NAME"],
    &["adopt", "NAME"],
    &["start", "NAME"],
    &["adopt", "--all"],
    &["ps", "-a", "--format", "json"],
];

/// Kills the shim at moments that are spread over what it does, and adopts by another command each
/// time.
fn kill_thirty_times(name: &str, arguments: &[&str]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let rotating = ["--log-max-size", "200k", "--log-max-files", "1000"];
    let guest = Guest::new(&bed, name).with(&rotating).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    let (directory, log) = (vm.directory(), vm.log());
    let vmm = vm.pid("vmm");
    for round in 0..30_u64 {
        let before = whole(&log).len();
        until("the log grows", || whole(&log).len() > before + 10_000);
        std::thread::sleep(Duration::from_micros(round * 911 % 6000));
        let killed = kill_shim(&directory);
        let command = COMMANDS[usize::try_from(round).expect("a number") % COMMANDS.len()];
        bed.ok(&command.iter().map(|word| if *word == "NAME" { name } else { word }).collect::<Vec<_>>());
        assert!(shim(&directory) != killed && is_alive(shim(&directory)), "{command:?}");
    }
    let seen = bed.inspect(name);
    assert_eq!((&seen["state"], &seen["supervised"]), (&"Running".into(), &true.into()));
    assert_eq!(seen["run"]["adoptions"].as_array().map(Vec::len), Some(30));
    assert_eq!(vm.pid("vmm"), vmm);
    bed.ok(&["kill", name]);
    assert_whole(&log, &options);
    let told = bed.ok(&["logs", "--source", "hypeman", name]);
    assert!(!told.contains("missing"), "{told}");
}

fn thirty_kills_in_full_output_lose_and_double_nothing() {
    kill_thirty_times("thirty", &[]);
}

fn thirty_kills_on_cloud_hypervisor_lose_and_double_nothing() {
    on_each(|arguments| kill_thirty_times("on-ch", arguments));
}

fn upgrade_twenty_times(name: &str, arguments: &[&str]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let guest = Guest::new(&bed, name).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    let (directory, log, vmm) = (vm.directory(), vm.log(), vm.pid("vmm"));
    let mut wait = bed.command(&["wait", name]);
    let wait = wait.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hypeman wait");
    for _ in 0..20 {
        let before = whole(&log).len();
        until("the log grows", || whole(&log).len() > before + 5000);
        let old = shim(&directory);
        bed.ok(&["upgrade-shims", name]);
        assert!(shim(&directory) != old && !is_alive(old));
    }
    assert_eq!(vm.pid("vmm"), vmm);
    let adoptions = bed.inspect(name)["run"]["adoptions"].clone();
    assert_eq!(adoptions.as_array().map(Vec::len), Some(20));
    assert!(adoptions[0]["reason"].as_str().expect("a reason").contains("handed it over"), "{adoptions}");
    assert_eq!(bed.ok(&["upgrade-shims"]), "", "all are of this program");
    bed.ok(&["stop", "-t", "0", name]);
    let waited = wait.wait_with_output().expect("its end");
    let words = String::from_utf8_lossy(&waited.stderr);
    assert_eq!((String::from_utf8_lossy(&waited.stdout).trim(), &*words), ("137", ""));
    assert_whole(&log, &options);
    let told = bed.ok(&["logs", "--source", "hypeman", name]);
    assert!(!told.contains("missing"), "{told}");
}

fn twenty_upgrades_in_full_output_lose_nothing() {
    upgrade_twenty_times("upgraded", &[]);
}

fn twenty_upgrades_on_cloud_hypervisor_lose_nothing() {
    on_each(|arguments| upgrade_twenty_times("on-ch", arguments));
}

fn an_upgrade_of_all_is_one_of_those_with_another_program() {
    let scratch = tempfile::tempdir().expect("a directory");
    let new = Bed::new(&scratch.path().join("data"));
    let old = new.clone().of(scratch.path().join("hypeman"));
    for name in ["hypeman", "hypeman-init"] {
        std::fs::copy(new.hypeman.with_file_name(name), scratch.path().join(name)).expect("copy");
    }
    let (of_old, of_new) = (Guest::new(&old, "of-old").run(), Guest::new(&new, "of-new").run());
    let shims = [&of_old, &of_new].map(|vm| shim(&vm.directory()));
    assert_eq!(new.ok(&["upgrade-shims"]), "of-old");
    assert!(shim(&of_old.directory()) != shims[0] && shim(&of_new.directory()) == shims[1]);
    new.fails(&["upgrade-shims", "nobody"], &["nobody"]);
    new.ok(&["stop", "-t", "0", "of-new"]);
    new.fails(&["upgrade-shims", "of-new"], &["of-new", "Stopped"]);
}

fn a_copytruncate_between_kill_and_adoption_loses_nothing() {
    cut("cut", &[]);
}

fn a_copytruncate_on_cloud_hypervisor_loses_nothing() {
    on_each(|arguments| cut("on-ch", arguments));
}

/// Done by hand as logrotate does it (`copytruncate`, logrotate(8)); as long as nobody writes, that
/// loses nothing.
fn cut(name: &str, arguments: &[&str]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let guest = Guest::new(&bed, name).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    let (directory, log) = (vm.directory(), vm.log());
    for round in (1..=5).rev() {
        wait_for_growth(&log, 50_000);
        kill_shim(&directory);
        std::fs::copy(&log, format!("{}.{round}", log.display())).expect("copy");
        std::fs::File::options().write(true).open(&log).and_then(|log| log.set_len(0)).expect("truncate");
        bed.ok(&["adopt", name]);
    }
    bed.ok(&["kill", name]);
    assert_whole(&log, &options);
}

fn a_kill_on_a_full_disk_loses_nothing() {
    fill("full", &[]);
}

fn a_kill_on_a_full_disk_on_cloud_hypervisor_loses_nothing() {
    on_each(|arguments| fill("on-ch", arguments));
}

fn fill(name: &str, arguments: &[&str]) {
    let disk = SmallDisk::new("400k");
    let bed = Bed::new(&disk.path().join("data"));
    let guest = Guest::new(&bed, name).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    let (directory, log) = (vm.directory(), vm.log());
    for size in ["600k", "800k", "20m"] {
        until("the disk is full", || disk.is_full());
        let before = log.metadata().expect("the log").len();
        kill_shim(&directory);
        disk.resize(size);
        bed.ok(&["adopt", name]);
        wait_for_growth(&log, before + 50_000);
    }
    bed.ok(&["kill", name]);
    assert_whole(&log, &options);
}

fn twenty_commands_at_once_adopt_once() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let vm = Guest::new(&bed, "twenty").run();
    let directory = vm.directory();
    for _ in 0..3 {
        let before = bed.inspect("twenty")["run"]["adoptions"].as_array().map_or(0, Vec::len);
        kill_shim(&directory);
        let spawn = |number: usize| {
            let arguments = [&["ps"][..], &["inspect", "twenty"], &["adopt", "twenty"]][number % 3];
            bed.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hypeman")
        };
        let commands: Vec<_> = (0..20).map(spawn).collect();
        for command in commands {
            let outcome = command.wait_with_output().expect("its end");
            assert!(outcome.status.success(), "{outcome:?}");
            assert!(!String::from_utf8_lossy(&outcome.stdout).contains("Unknown"), "{outcome:?}");
        }
        let after = bed.inspect("twenty");
        assert_eq!(after["run"]["adoptions"].as_array().map(Vec::len), Some(before + 1), "{after}");
    }
}

fn a_follower_goes_on_over_an_adoption() {
    let guest = Guest::new(bed(), "followed").lines(40_000);
    let options = guest.options();
    let vm = guest.run();
    let directory = vm.directory();
    let mut follower = vm.follow();
    let mut lines = BufReader::new(follower.stdout.take().expect("piped"));
    let mut read = Vec::new();
    for _ in 0..3 {
        for _ in 0..3000 {
            assert!(lines.read_until(b'\n', &mut read).expect("a line") > 0);
        }
        kill_shim(&directory); // the follower itself gives it another
    }
    while lines.read_until(b'\n', &mut read).expect("a line") > 0 {}
    assert!(follower.wait().expect("its end").success());
    let seen = Sequence::new(&options).check(&read).unwrap_or_else(|broken| panic!("{broken:?}"));
    assert_eq!(seen, 0..40_000);
    assert_eq!(bed().inspect("followed")["end"]["reason"], "guest-shutdown");
}

fn what_ended_while_nobody_was_there_shows_so() {
    let vm = Guest::new(bed(), "alone").run();
    let (vmm, directory) = (vm.pid("vmm"), vm.directory());
    kill_shim(&directory);
    kill(vmm);
    until("the VMM is gone", || !is_alive(vmm));
    let seen = bed().inspect("alone");
    assert_eq!((&seen["state"], &seen["end"]["reason"]), (&"Stopped".into(), &"vanished".into()));
    assert!(!whole(&vm.log()).contains(&0));
}

fn a_foreground_run_goes_on_over_an_adoption() {
    let script = "i=0; while [ $i -lt 8 ]; do echo tick $i; i=$((i+1)); sleep 0.5; done; exit 7";
    let arguments = ["run", "--name", "foreground", busybox(), "sh", "-c", script];
    let mut run = bed().command(&arguments).stdout(Stdio::piped()).spawn().expect("hypeman run");
    let vm = Instance::named(bed(), "foreground");
    let mut lines = BufReader::new(run.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("a line"), "tick 0");
    let directory = vm.directory();
    kill_shim(&directory);
    let rest: Vec<String> = lines.map(|line| line.expect("a line")).collect();
    assert_eq!(rest, (1..8).map(|number| format!("tick {number}")).collect::<Vec<_>>());
    assert_eq!(run.wait().expect("its end").code(), Some(7));
}

fn the_end_of_a_program_is_told_after_an_adoption() {
    for removes_itself in [false, true] {
        let name = format!("program-{removes_itself}");
        let mut arguments = vec!["run", "-d", "--name", &name];
        arguments.extend(removes_itself.then_some("--rm"));
        arguments.extend([
            busybox(),
            "sh",
            "-c",
            "echo up; trap 'echo asked; exit 9' TERM; while :; do sleep 0.1; done",
        ]);
        bed().ok(&arguments);
        let vm = Instance::named(bed(), &name);
        let _ = vm.read_until("up");
        let directory = vm.directory();
        kill_shim(&directory);
        let wait = bed().command(&["wait", &name]).stdout(Stdio::piped()).spawn().expect("hypeman wait");
        until("it is adopted", || is_alive(shim(&directory)));
        bed().ok(&["stop", &name]);
        let waited = wait.wait_with_output().expect("its end");
        assert_eq!(String::from_utf8_lossy(&waited.stdout).trim(), "9");
        if removes_itself {
            until("it has removed itself", || !directory.exists());
        } else {
            let seen = bed().inspect(&name);
            assert_eq!((&seen["end"]["reason"], &seen["end"]["exit_code"]), (&"exited".into(), &9.into()));
        }
    }
}
