//! The console log is whole: across rotations, copytruncate, and the death of our own processes.

use std::path::Path;
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::ch::on_each;
use hypeman_tests::console::{assert_no_hole, files, whole};
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::logrotate::Logrotate;
use hypeman_tests::needs::{LOGROTATE, Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use testguest::Options;
use testguest::check::Sequence;

use crate::promises;

promises! {
    [QEMU]
        whole_through_200_rotations,
        bounded_when_old_files_are_dropped,
        whole_when_everyone_but_shim_and_vmm_is_killed,
        someone_else_s_rename_loses_nothing;
    [QEMU, LOGROTATE] no_hole_after_copytruncate;
    [QEMU, Need::Root]
        a_full_disk_loses_nothing,
        a_guest_that_must_not_wait_ends_on_a_full_disk,
        an_instance_can_be_removed_from_a_full_disk;
}

/// Fills a small disk with the console of a VM.
fn fill<'a>(disk: &SmallDisk, bed: &'a Bed, name: &str, options: &Options) -> Instance<'a> {
    let vm = Guest::new(bed, name).lines(options.count).run();
    until("the disk is full", || disk.is_full());
    vm
}

fn a_full_disk_loses_nothing() {
    let disk = SmallDisk::new("1m");
    let bed = Bed::new(&disk.path().join("data"));
    let options = options(40_000);
    let vm = fill(&disk, &bed, "full", &options);
    // Reported as long as it is so.
    until("it is told", || bed.ok(&["ps"]).contains("its output waits: "));
    let reason = bed.inspect("full")["state_reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("app.log") && reason.contains("No space left"), "{reason}");
    disk.resize("20m");
    until("it goes on", || !bed.ok(&["ps", "-a"]).contains("waits"));
    assert_eq!(vm.wait(), 0);
    assert_complete(&options, &whole(&vm.directory().join("logs/app.log")));
}

fn a_guest_that_must_not_wait_ends_on_a_full_disk() {
    runs_on_over_a_full_disk(&[]);
    on_each(runs_on_over_a_full_disk);
}

fn runs_on_over_a_full_disk(arguments: &[&str]) {
    let disk = SmallDisk::new("256k"); // which a slow VMM fills too
    let bed = Bed::new(&disk.path().join("data"));
    let guest = Guest::new(&bed, "goes-on").until_told().with(arguments);
    let guest = guest.with(&["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k"]);
    let sequence = Sequence::new(&guest.options());
    let vm = guest.run();
    let log = vm.log();
    until("it is told", || bed.ok(&["ps"]).contains("its output is being lost"));
    let _typist = vm.tell_to_end(); // a guest that waited would never hear of it
    until("the guest ends", || vm.state() == "Shutdown");
    assert!(disk.is_full());
    disk.resize("20m");
    assert_eq!(vm.wait(), 0);
    let account = sequence.account(&[whole(&log)]).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    assert!(account.has_ended, "{arguments:?}");
    assert!(account.told > 0, "{account:?}");
    assert_eq!(account.on_disk + account.told, account.printed);
    let journal = bed.ok(&["logs", "--source", "hypeman", "goes-on"]);
    assert!(journal.contains("bytes of the guest's output were lost"), "{journal}");
}

fn an_instance_can_be_removed_from_a_full_disk() {
    let disk = SmallDisk::new("1m");
    let bed = Bed::new(&disk.path().join("data"));
    let _vm = fill(&disk, &bed, "full", &options(0));
    bed.ok(&["rm", "-f", "full"]);
    assert_eq!(bed.instance_directories(), Vec::<String>::new());
    assert!(!disk.is_full());
}

/// Lines of the test guest, as many as are asked for; 0 for no end.
fn options(count: u64) -> Options {
    Options { count, ..Options::default() }
}

fn run_testguest(name: &str, options: &Options, more: &[&str]) -> Instance<'static> {
    Guest::new(bed(), name).lines(options.count).with(more).run()
}

pub(crate) fn assert_complete(options: &Options, bytes: &[u8]) {
    let lines = Sequence::new(options).check(bytes).unwrap_or_else(|broken| panic!("{broken:?}"));
    assert_eq!(lines, 0..options.count);
}

fn whole_through_200_rotations() {
    let options = options(60_000);
    let limits = ["--log-max-size", "16k", "--log-max-files", "1000"];
    let vm = run_testguest("rotations", &options, &limits);
    let app_log = vm.directory().join("logs/app.log");
    assert_eq!(vm.wait(), 0);
    assert!(files(&app_log).len() > 200, "only {} files", files(&app_log).len());
    assert!(files(&app_log).iter().all(|file| file.metadata().is_ok_and(|m| m.len() <= 16 * 1024)));
    assert_complete(&options, &whole(&app_log));
}

fn bounded_when_old_files_are_dropped() {
    let options = options(20_000);
    let vm = run_testguest("bounded", &options, &["--log-max-size", "16k", "--log-max-files", "2"]);
    let app_log = vm.directory().join("logs/app.log");
    assert_eq!(vm.wait(), 0);
    let bytes = whole(&app_log);
    assert!(files(&app_log).len() == 3 && bytes.len() <= 3 * 16 * 1024, "{} bytes", bytes.len());
    let lines = Sequence::new(&options).check(&bytes).unwrap_or_else(|broken| panic!("{broken:?}"));
    assert_eq!(lines.end, options.count, "the newest lines are the ones kept");
}

fn no_hole_after_copytruncate() {
    let options = options(0);
    let vm = run_testguest("copytruncate", &options, &[]);
    copytruncate_five_times(&options, &vm.directory().join("logs/app.log"), 64 * 1024);
}

/// Truncates the log of a VM that prints, each time when so many bytes are in it, by the real
/// logrotate: there is never a hole, and what comes is whole. Of a line that takes longer than the
/// capture waits, as on a busy host, the beginning may be cut off.
pub(crate) fn copytruncate_five_times(options: &Options, app_log: &Path, bytes: u64) {
    let old = tempfile::tempdir().expect("a directory");
    let logrotate = Logrotate::new(app_log, &format!("rotate 1\nolddir {}", old.path().display()));
    let mut before = 0;
    for _ in 0..5 {
        wait_for_growth(app_log, bytes);
        logrotate.run();
        wait_for_growth(app_log, bytes);
        assert_no_hole(app_log);
        let bytes = std::fs::read(app_log).expect("read the log");
        let line_end = bytes.iter().position(|&byte| byte == b'\n').expect("a line");
        let lines = Sequence::new(options)
            .check(&bytes[line_end + 1..])
            .unwrap_or_else(|broken| panic!("{broken:?}"));
        assert!(lines.start > before, "the log was truncated: it begins with line {}", lines.start);
        before = lines.start;
    }
}

/// Waits until a file has at least `bytes` bytes.
pub(crate) fn wait_for_growth(file: &Path, bytes: u64) {
    until("the file grows", || file.metadata().is_ok_and(|metadata| metadata.len() >= bytes));
}

fn whole_when_everyone_but_shim_and_vmm_is_killed() {
    let name = "killed-cli";
    let guest = Guest::new(bed(), name).lines(100_000);
    let options = guest.options();
    let arguments = guest.arguments();
    let arguments: Vec<&str> = ["run"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let mut cli = bed().command(&arguments).stdout(std::process::Stdio::null()).spawn().expect("hypeman run");
    until("it runs", || bed().run(&["inspect", name]).code == 0 && !bed().inspect(name)["run"].is_null());
    let vm = Instance::named(bed(), name);
    let app_log = vm.directory().join("logs/app.log");
    wait_for_growth(&app_log, 1);
    cli.kill().expect("kill -9 the CLI");
    cli.wait().expect("the CLI");
    for round in 0_u64..20 {
        let mut followers = [vm.follow(), vm.follow()];
        // Random moments: somewhere between the follower's first instructions and its work.
        std::thread::sleep(Duration::from_millis(round * 37 % 101));
        for follower in &mut followers {
            follower.kill().expect("kill -9 a follower");
            follower.wait().expect("a follower");
        }
    }
    assert_eq!(vm.wait(), 0);
    assert_complete(&options, &whole(&app_log));
}

fn someone_else_s_rename_loses_nothing() {
    let options = options(30_000);
    let vm = run_testguest("renamed", &options, &[]);
    let app_log = vm.directory().join("logs/app.log");
    wait_for_growth(&app_log, 4096);
    let moved = app_log.with_file_name("moved-away");
    std::fs::rename(&app_log, &moved).expect("rename");
    assert_eq!(vm.wait(), 0);
    let bytes = [std::fs::read(&moved).expect("read"), whole(&app_log)].concat();
    assert_complete(&options, &bytes);
}
