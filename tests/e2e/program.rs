//! Effects of a program in a VM, as docker's user would see them.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::needs::{BUSYBOX, QEMU};
use hypeman_tests::wait::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::promises;

promises! {
    [QEMU, BUSYBOX]
        exit_codes_are_docker_s,
        foreground_shows_the_program_and_nothing_else,
        environment_user_and_directory,
        a_signal_to_the_cli_reaches_the_program,
        interrupted_twice_leaves_nothing,
        microvm_runs_it_too;
}

fn exit_codes_are_docker_s() {
    let cases: [(&[&str], i32); 6] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/etc/not-executable"], 126),
    ];
    for (program, code) in cases {
        let outcome = bed().run(&[&["run", "--rm", busybox()], program].concat());
        assert_eq!(outcome.code, code, "{program:?}: {outcome:?}");
    }
    bed().fails(&["run", "--rm", busybox(), "no-such-program"], &["no-such-program"]);
}

fn foreground_shows_the_program_and_nothing_else() {
    let outcome = bed().run(&["run", "--rm", busybox(), "printf", r"one\ntwo\r\n\303\251 \033[1m\ttab"]);
    assert_eq!(outcome.stdout, "one\ntwo\r\n\u{e9} \u{1b}[1m\ttab", "{outcome:?}");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

fn environment_user_and_directory() {
    let script = "echo $A $B; pwd; id -u; hostname; touch /written && echo writable";
    let arguments = ["run", "--rm", "--name", "env-test", "-e", "A=1", "-e", "B=x y", "-w", "/made/here"];
    let outcome = bed().run(&[&arguments[..], &[busybox(), "sh", "-c", script]].concat());
    assert_eq!(outcome.stdout, "1 x y\n/made/here\n0\nenv-test\nwritable\n", "{outcome:?}");
    let outcome = bed().run(&["run", "--rm", "-u", "web", "--entrypoint", "id", busybox(), "-u"]);
    assert_eq!(outcome.stdout, "33\n", "{outcome:?}");
}

/// Starts a program in the foreground, and waits for its first line.
fn in_foreground(name: &str, script: &str) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let arguments = ["run", "--rm", "--name", name, busybox(), "sh", "-c", script];
    let mut cli = bed().command(&arguments).stdout(Stdio::piped()).spawn().expect("hypeman run");
    let mut stdout = BufReader::new(cli.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    (cli, stdout)
}

fn interrupt(cli: &std::process::Child, signal: Signal) {
    let pid = i32::try_from(cli.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("signal the CLI");
}

fn a_signal_to_the_cli_reaches_the_program() {
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 1; done";
    let (mut cli, mut stdout) = in_foreground("signalled", script);
    interrupt(&cli, Signal::TERM);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "caught\n");
    assert_eq!(cli.wait().expect("the CLI").code(), Some(3));
}

fn interrupted_twice_leaves_nothing() {
    let (mut cli, mut stdout) =
        in_foreground("stubborn", "trap 'echo no' INT; echo ready; while :; do sleep 1; done");
    interrupt(&cli, Signal::INT);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "no\n");
    interrupt(&cli, Signal::INT);
    assert_eq!(cli.wait().expect("the CLI").code(), Some(137));
    // The shim removes the instance after its last client has gone.
    until("it has removed itself", || bed().run(&["inspect", "stubborn"]).code != 0);
}

fn microvm_runs_it_too() {
    let arguments =
        ["run", "--rm", "--hypervisor", "qemu-microvm", busybox(), "sh", "-c", "echo micro; exit 5"];
    let outcome = bed().run(&arguments);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (5, "micro\n"), "{outcome:?}");
}
