//! Reading logs: to the end of the instance, of the reader, or of what is kept.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::SystemTime;

use hypeman_tests::console::whole;
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::logrotate::Logrotate;
use hypeman_tests::needs::{LOGROTATE, QEMU};
use hypeman_tests::terminal::Terminal;
use hypeman_tests::vm::Instance;
use testguest::Options;
use testguest::check::Sequence;

use crate::console::wait_for_growth;
use crate::promises;

promises! {
    [QEMU]
        a_follower_ends_when_its_instance_is_removed,
        a_follower_ends_when_its_reader_has_gone,
        a_foreground_run_ends_when_its_reader_has_gone,
        an_overtaken_follower_tells_what_it_missed,
        a_directory_that_goes_while_the_guest_prints,
        a_directory_of_logs_that_is_gone,
        several_are_told_apart,
        lines_have_times_and_can_be_chosen_by_them,
        a_line_is_an_object_and_none_of_its_bytes_is_lost,
        a_terminal_obeys_no_guest_and_a_pipe_has_every_byte,
        a_follower_can_go_on_over_restarts;
    [QEMU, LOGROTATE] a_follower_reads_each_byte_once_through_copytruncate;
}

fn run(name: &str, options: &Options, more: &[&str]) -> Instance<'static> {
    let guest = Guest::new(bed(), name).lines(options.count).with(more);
    if options.echo { guest.quiet().run() } else { guest.run() }
}

/// Says a line and is silent from then on.
fn quiet() -> Options {
    Options { count: 1, echo: true, ..Options::default() }
}

fn a_follower_ends_when_its_instance_is_removed() {
    let vm = run("removed-meanwhile", &quiet(), &[]);
    let mut follower = vm.follow();
    let mut first = [0; 1];
    follower.stdout.as_mut().expect("piped").read_exact(&mut first).expect("a byte");
    bed().ok(&["rm", "-f", "removed-meanwhile"]);
    let output = follower.wait_with_output().expect("its end");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

fn a_follower_ends_when_its_reader_has_gone() {
    let vm = run("unread", &quiet(), &[]);
    let _ = vm.read_until("0000000000 ");
    let mut follower = vm.follow();
    drop(follower.stdout.take());
    assert_eq!(follower.wait().expect("its end").code(), Some(0), "though the guest says nothing more");
}

fn a_foreground_run_ends_when_its_reader_has_gone() {
    let arguments = Guest::new(bed(), "unread-run").quiet().arguments();
    let arguments: Vec<&str> = ["run"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let mut command = bed().command(&arguments);
    let mut cli = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hypeman run");
    let vm = Instance::named(bed(), "unread-run");
    let mut first = [0; 1];
    cli.stdout.as_mut().expect("piped").read_exact(&mut first).expect("a byte");
    drop(cli.stdout.take());
    let output = cli.wait_with_output().expect("its end");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && words.contains("unread-run keeps running"), "{output:?}");
    assert_eq!(bed().inspect(&vm.name)["state"], "Running");
}

fn an_overtaken_follower_tells_what_it_missed() {
    let options = Options { count: 40_000, ..Options::default() };
    let vm = run("overtaken", &options, &["--log-max-size", "16k", "--log-max-files", "1"]);
    let mut command = bed().command(&["logs", "-f", "overtaken"]);
    let follower = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hypeman logs");
    assert_eq!(vm.wait(), 0);
    // Only now it is read: the pipe holds the beginning, and the log the end.
    let output = follower.wait_with_output().expect("its end");
    let log = vm.directory().join("logs/app.log");
    if rustix::fs::getxattr(&log, "user.hypeman.start", &mut [0_u8; 32][..]).is_err() {
        eprintln!(
            "SKIPPED: how much was missed cannot be told on this file system, which has no user xattrs"
        );
        return;
    }
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let first: u64 = shown.split(' ').next().expect("a number").parse().expect("a number");
    let sequence = Sequence::new(&options);
    let from_first: usize = (first..options.count).map(|number| sequence.line(number).len()).sum();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let told: usize = words.lines().filter_map(|line| line.split(' ').nth(1)?.parse::<usize>().ok()).sum();
    assert_eq!(told, from_first - shown.len(), "{words}");
    assert!(told > 0, "it was overtaken");
}

fn a_directory_that_goes_while_the_guest_prints() {
    let vm = run("goes", &Options { count: 0, ..Options::default() }, &[]);
    let mut follower = vm.follow();
    let mut printed = BufReader::new(follower.stdout.take().expect("piped"));
    let mut line = String::new();
    printed.read_line(&mut line).expect("a line");
    let logs = vm.directory().join("logs");
    std::fs::remove_dir_all(&logs).expect("remove the logs");
    wait_for_growth(&logs.join("app.log"), 100_000);
    // The follower reaches the bytes that were written after that.
    let lines: Vec<String> =
        std::fs::read_to_string(logs.join("app.log")).expect("read").lines().map(str::to_owned).collect();
    while line.trim_end() != lines[lines.len() - 2] {
        line.clear();
        assert!(printed.read_line(&mut line).expect("a line") > 0, "the follower has ended");
    }
    follower.kill().expect("kill");
    follower.wait().expect("its end");
}

fn a_directory_of_logs_that_is_gone() {
    let vm = run("no-logs", &Options { count: 3, ..Options::default() }, &[]);
    assert_eq!(vm.wait(), 0);
    std::fs::remove_dir_all(vm.directory().join("logs")).expect("remove the logs");
    assert_eq!(bed().ok(&["logs", "no-logs"]), "");
    assert_eq!(bed().ok(&["logs", "-f", "--tail", "2", "no-logs"]), "");
    bed().ok(&["start", "no-logs"]);
    assert_eq!(vm.wait(), 0);
    for tail in ["--tail=-1", "--tail=all"] {
        assert_eq!(bed().ok(&["logs", tail, "no-logs"]).lines().count(), 3, "{tail}");
    }
    assert_eq!(bed().ok(&["logs", "-n", "-1", "no-logs"]).lines().count(), 3);
}

/// One that has printed three lines and ended.
fn ended(name: &str) -> Instance<'static> {
    let vm = run(name, &Options { count: 3, ..Options::default() }, &[]);
    assert_eq!(vm.wait(), 0);
    vm
}

/// Adds to the log of one that has ended what a hostile guest would have printed.
fn add(vm: &Instance<'_>, bytes: &[u8]) {
    let mut log = File::options().append(true).open(vm.log()).expect("open the log");
    log.write_all(bytes).expect("write");
}

fn several_are_told_apart() {
    let (_one, _two) = (ended("several-1"), ended("several-other"));
    let plain = bed().ok(&["logs", "several-1"]);
    let first = plain.lines().next().expect("a line");
    for arguments in [&["logs"][..], &["logs", "-f"], &["logs", "--tail", "all"]] {
        let shown = bed().ok(&[arguments, &["several-1", "several-other"]].concat());
        let count = |prefix: &str| shown.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!((count("several-1     | "), count("several-other | ")), (3, 3), "{shown}");
        assert!(shown.contains(&format!("several-1     | {first}")), "{shown}");
    }
    let shown = bed().ok(&["logs", "--no-log-prefix", "several-1", "several-other"]);
    assert_eq!(shown.lines().filter(|line| *line == first).count(), 2);
    bed().fails(&["logs", "several-1", "nobody"], &["nobody"]);
}

fn lines_have_times_and_can_be_chosen_by_them() {
    let before = SystemTime::now();
    let vm = ended("timed");
    let shown = bed().ok(&["logs", "-t", "timed"]);
    let plain = bed().ok(&["logs", "timed"]);
    for (line, plain) in shown.lines().zip(plain.lines()) {
        let (time, rest) = line.split_once(' ').expect("a time");
        let time: SystemTime = time.parse::<jiff::Timestamp>().expect("RFC 3339").into();
        assert!((before..SystemTime::now()).contains(&time), "{line}");
        assert_eq!(rest, plain);
    }
    let time_before = jiff::Timestamp::try_from(before).expect("a time").to_string();
    assert_eq!(bed().ok(&["logs", "--since", "10m", "timed"]), plain);
    assert_eq!(bed().ok(&["logs", "--since", &time_before, "--tail", "1", "timed"]).lines().count(), 1);
    assert_eq!(bed().ok(&["logs", "--until", &time_before, "timed"]), "");
    let between = jiff::Timestamp::now().to_string();
    bed().ok(&["start", "timed"]);
    assert_eq!(vm.wait(), 0);
    assert_eq!(bed().ok(&["logs", "--since", &between, "timed"]), plain, "the second boot");
    assert_eq!(bed().ok(&["logs", "--until", &between, "timed"]), plain, "the first boot");
    bed().fails(&["logs", "--since", "yesterday", "timed"], &["yesterday", "like 10m"]);
    // Their loss is theirs alone.
    std::fs::remove_dir_all(vm.directory().join("logs/.times")).expect("remove the times");
    assert!(bed().ok(&["logs", "-t", "timed"]).starts_with("- 0000000000 "));
    assert_eq!(bed().ok(&["logs", "--since", "10m", "timed"]).lines().count(), 6);
}

fn a_line_is_an_object_and_none_of_its_bytes_is_lost() {
    let vm = ended("objects");
    let long = "x".repeat(100_000);
    add(&vm, &[b"not \xff UTF-8\0\n", long.as_bytes(), b"\n\nno end"].concat());
    let shown = bed().ok(&["logs", "--format", "json", "objects"]);
    let objects: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(objects[0]["text"].as_str(), bed().ok(&["logs", "objects"]).lines().next());
    assert!(objects[0]["time"].as_str().expect("a time").parse::<jiff::Timestamp>().is_ok());
    assert_eq!((&objects[0]["instance"], &objects[0]["source"]), (&"objects".into(), &"app".into()));
    assert_eq!(objects[0].get("base64"), None);
    assert_eq!(objects[3]["text"], "not \u{fffd} UTF-8\0");
    assert_eq!(objects[3]["base64"], "bm90IP8gVVRGLTgA");
    let parts = [&objects[4], &objects[5]].map(|part| part["text"].as_str().expect("a text"));
    assert_eq!((parts.concat(), &objects[4]["partial"]), (long, &true.into()));
    assert_eq!((&objects[6]["text"], objects[6].get("partial")), (&"".into(), None));
    assert_eq!((&objects[7]["text"], &objects[7]["partial"]), (&"no end".into(), &true.into()));
    assert_eq!(objects.len(), 8);
}

fn a_terminal_obeys_no_guest_and_a_pipe_has_every_byte() {
    let vm = ended("hostile");
    let hostile = b"\x1b]0;owned\x07\x1b[31mred\x1b[0m \x1b[2J\xff\0\rover\n";
    add(&vm, hostile);
    let mut command = bed().command(&["logs", "hostile"]);
    let output = command.output().expect("hypeman logs");
    assert!(output.stdout.ends_with(hostile));
    let shown = |arguments: &[&str]| {
        let terminal = Terminal::new();
        let mut logs = terminal.start(bed().command(&[&["logs", "--tail", "1"], arguments].concat()));
        assert!(logs.wait().expect("its end").success());
        terminal.shows("over")
    };
    let escaped = "^[]0;owned^G\x1b[31mred\x1b[0m ^[[2J\\xff^@^Mover";
    assert!(shown(&["hostile"]).ends_with(escaped), "{:?}", shown(&["hostile"]));
    let raw = shown(&["--raw", "hostile"]);
    assert!(raw.contains("\x1b]0;owned\x07") && raw.contains("\x1b[2J"), "{raw:?}");
    assert!(!shown(&["--format", "json", "hostile"]).contains('\x1b'));
}

fn a_follower_can_go_on_over_restarts() {
    let vm = ended("again");
    let mut command = bed().command(&["logs", "-F", "again"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().expect("hypeman logs");
    let mut shown = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let mut boot = || (0..3).map(|_| shown.next().expect("a line").expect("text")).collect::<Vec<_>>();
    let first = boot();
    bed().ok(&["start", "again"]);
    assert_eq!(boot(), first);
    assert_eq!(vm.wait(), 0);
    bed().ok(&["start", "again"]);
    assert_eq!(boot(), first);
    drop(vm);
    assert!(follower.wait().expect("its end").success(), "it ends with the instance's removal");
}

fn a_follower_reads_each_byte_once_through_copytruncate() {
    let options = Options { count: 0, ..Options::default() };
    let vm = run("copied", &options, &[]);
    let log = vm.log();
    let logrotate = Logrotate::new(&log, "rotate 9");
    let mut command = bed().command(&["logs", "-F", "copied"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().expect("hypeman logs");
    let mut piped = follower.stdout.take().expect("piped");
    let shown = std::thread::spawn(move || {
        let mut shown = Vec::new();
        piped.read_to_end(&mut shown).map(|_| shown)
    });
    for _ in 0..5 {
        vm.prints();
        // Asleep it prints nothing, so that what is lost is not logrotate's loss.
        bed().ok(&["standby", "copied"]);
        logrotate.run();
        bed().ok(&["restore", "copied"]);
    }
    vm.prints();
    bed().ok(&["kill", "copied"]);
    let all = whole(&log);
    drop(vm);
    assert!(follower.wait().expect("its end").success());
    let shown = shown.join().expect("its reader").expect("read");
    assert_eq!(shown.len(), all.len());
    assert!(shown == all, "each byte once, in order");
}
