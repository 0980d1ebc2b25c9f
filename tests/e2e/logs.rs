//! Reading logs: to the end of the instance, of the reader, or of what is kept.

use std::io::{BufRead, Read};
use std::process::Stdio;

use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::QEMU;
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
        a_directory_of_logs_that_is_gone;
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
    assert!(output.status.success() && words.contains("unread-run runs on"), "{output:?}");
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
    let mut printed = std::io::BufReader::new(follower.stdout.take().expect("piped"));
    let mut line = String::new();
    printed.read_line(&mut line).expect("a line");
    let logs = vm.directory().join("logs");
    std::fs::remove_dir_all(&logs).expect("remove the logs");
    wait_for_growth(&logs.join("app.log"), 100_000);
    // What the follower shows comes to what was written after that.
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
