//! exec: commands in a VM that runs, as docker runs them in a container
//! (docs.docker.com/reference/cli/docker/container/exec), and what docker leaves behind is gone.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use hypeman_tests::bed::Outcome;
use hypeman_tests::ch::{is_real, on_each};
use hypeman_tests::fixtures::{bed, busybox, testguest};
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::terminal::Terminal;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{eventually, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::promises;

promises! {
    [QEMU, BUSYBOX]
        on_q35_a_command_is_run_as_docker_runs_it,
        on_microvm_a_command_is_run_as_docker_runs_it,
        what_goes_through_pipes_is_whole,
        a_terminal_has_a_size_and_signals,
        a_signal_to_us_is_the_commands,
        whoever_goes_away_leaves_nothing_in_the_guest,
        a_command_whose_time_is_up_is_ended,
        fifty_at_once,
        the_agent_is_killed,
        an_agent_that_is_stuck_costs_only_those_who_speak_with_it,
        the_shim_is_killed,
        a_vm_sleeps_in_the_middle,
        a_command_is_run_where_the_program_is_process_1,
        what_cannot_be_run_is_told;
    [BUSYBOX, Need::CloudHypervisor]
        on_cloud_hypervisor_the_channel_is_vsock,
        on_cloud_hypervisor_vsock_outlives_a_sleep;
}

fn exec(name: &str, options: &[&str], command: &[&str]) -> Outcome {
    bed().run(&[&["exec"], options, &[name], command].concat())
}

/// How many processes of the guest have this among their arguments.
fn running(name: &str, word: &str) -> usize {
    let processes = bed()
        .shell(name, "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $file; echo; done 2>/dev/null");
    processes.lines().filter(|line| line.contains(word) && !line.contains("/proc/[0-9]")).count()
}

fn start(arguments: &[&str]) -> Child {
    let mut command = bed().command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hypeman exec")
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("signal it");
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    line
}

fn on_q35_a_command_is_run_as_docker_runs_it() {
    runs_as_docker("exec-q35", &["-e", "OF_THE_VM=1", "-w", "/srv"]);
}

fn on_microvm_a_command_is_run_as_docker_runs_it() {
    runs_as_docker("exec-microvm", &["--hypervisor", "qemu-microvm", "-e", "OF_THE_VM=1", "-w", "/srv"]);
}

fn runs_as_docker(name: &str, arguments: &[&str]) {
    let _vm = Instance::idle(bed(), name, arguments);
    // At once: whoever has just started a VM need not wait for it.
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/no/such/program"], 127),
        (&["/etc/not-executable"], 126),
    ] {
        assert_eq!(exec(name, &[], command).code, code, "{command:?}");
    }
    let outcome = exec(name, &[], &["sh", "-c", "echo out; echo err >&2; echo $OF_THE_VM; pwd; id -u"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n1\n/srv\n0\n", "err\n"));
    let outcome = exec(name, &["-e", "A=x y", "-e", "OF_THE_VM=2"], &["sh", "-c", "echo $A $OF_THE_VM"]);
    assert_eq!(outcome.stdout, "x y 2\n");
    let outcome = exec(name, &["-u", "web", "-w", "/tmp"], &["sh", "-c", "id -u; id -g; pwd; echo $HOME"]);
    assert_eq!(outcome.stdout, "33\n33\n/tmp\n/\n");
    assert_eq!(exec(name, &["-u", "5:6"], &["sh", "-c", "id -u; id -g"]).stdout, "5\n6\n");
    // Without -i its input is empty, without -t nothing is a terminal.
    assert_eq!(exec(name, &[], &["cat"]).code, 0);
    assert_eq!(exec(name, &[], &["sh", "-c", "test -t 0 || test -t 1 || test -t 2"]).code, 1);
    assert_eq!(exec(name, &["-w", "/no/such"], &["true"]).code, 127);
    assert!(exec(name, &["-u", "nobody-here"], &["true"]).stderr.contains("nobody-here"));
    // Arguments are no options of ours, and go as they are.
    assert_eq!(exec(name, &[], &["echo", "-n", "--", "-i", "\u{e9}'\"$"]).stdout, "-- -i \u{e9}'\"$");
    // In the background it is left alone, and its output is nobody's.
    let outcome = exec(name, &["-d"], &["sh", "-c", "echo nowhere; echo > /made; sleep 4321"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""));
    until("it has run", || exec(name, &[], &["test", "-e", "/made"]).code == 0);
    assert_eq!(running(name, "sleep 4321"), 1);
    // A process that a command leaves running does not delay it.
    assert_eq!(bed().shell(name, "sleep 1234 & echo left"), "left");
    assert_eq!(running(name, "sleep 1234"), 1);
}

fn what_goes_through_pipes_is_whole() {
    const SIZE: usize = 40_000_000;
    let _vm = Instance::idle(bed(), "exec-pipes", &[]);
    let sent: Vec<u8> = (0..SIZE).map(|number| (number * 31 / 7) as u8).collect();
    let mut child = start(&["exec", "-i", "exec-pipes", "cat"]);
    let mut stdin = child.stdin.take().expect("piped");
    let written = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&written));
    let mut got = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut got).expect("read");
    writer.join().expect("no panic").expect("written");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert!(got == sent, "{} bytes of {SIZE}", got.len());
    // A command that does not read its input is not waited for.
    let mut child = start(&["exec", "-i", "exec-pipes", "sh", "-c", "head -c 5; echo; exit 3"]);
    let mut stdin = child.stdin.take().expect("piped");
    std::thread::spawn(move || stdin.write_all(&[b'x'; 10_000_000]));
    assert_eq!(first_line(&mut child), "xxxxx\n");
    assert_eq!(child.wait().expect("its end").code(), Some(3));
    // And one whose output nobody reads is ended.
    let mut child = start(&["exec", "exec-pipes", "yes", "unread"]);
    assert_eq!(first_line(&mut child), "unread\n");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("its end").code(), Some(141));
    until("yes has ended", || running("exec-pipes", "yes unread") == 0);
}

fn a_terminal_has_a_size_and_signals() {
    let _vm = Instance::idle(bed(), "exec-terminal", &[]);
    let terminal = Terminal::new();
    terminal.resize(33, 101);
    let script = "trap 'echo changed $(stty size)' WINCH; echo ready $(stty size) $TERM; tty; \
                  trap 'echo interrupted' INT; until [ \"$line\" = end ]; do read line && echo got $line; done; exit 9";
    let mut child = terminal.start(bed().command(&["exec", "-it", "exec-terminal", "sh", "-c", script]));
    terminal.shows("ready 33 101 xterm");
    terminal.shows("/dev/pts/");
    assert!(!terminal.is_cooked(), "what is typed goes on as it is");
    terminal.types(b"one\r");
    terminal.shows("got one");
    terminal.resize(20, 60);
    signal(&child, Signal::WINCH); // it is not its controlling terminal here
    terminal.shows("changed 20 60");
    terminal.types(b"\x03");
    terminal.shows("interrupted");
    terminal.types(b"end\r");
    assert_eq!(child.wait().expect("its end").code(), Some(9));
    assert!(terminal.is_cooked(), "it is as it was before");
    bed().fails(&["exec", "-it", "exec-terminal", "true"], &["terminal"]);
}

fn a_signal_to_us_is_the_commands() {
    let _vm = Instance::idle(bed(), "exec-signals", &[]);
    let script =
        "trap 'echo caught; exit 4' TERM; trap 'echo no' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = start(&["exec", "exec-signals", "sh", "-c", script]);
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        line
    };
    assert_eq!(line(), "ready\n");
    signal(&child, Signal::TERM);
    assert_eq!(line(), "caught\n");
    assert_eq!(child.wait().expect("its end").code(), Some(4));
    // A second one leaves a command that does not end, which then is ended.
    let mut child = start(&["exec", "exec-signals", "sh", "-c", script]);
    assert_eq!(first_line(&mut child), "ready\n");
    signal(&child, Signal::INT);
    assert_eq!(first_line(&mut child), "no\n");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    until("it has ended", || running("exec-signals", "caught") == 0);
}

fn whoever_goes_away_leaves_nothing_in_the_guest() {
    let _vm = Instance::idle(bed(), "exec-away", &[]);
    // It hears of it, does not listen, and has children that hide.
    let script = "trap 'echo hup >> /tmp/heard' HUP; setsid sleep 7777 & (trap '' HUP; sleep 7777 & sleep 7777) & \
                  echo ready; while :; do sleep 7777; done";
    let mut child = start(&["exec", "exec-away", "sh", "-c", script]);
    assert_eq!(first_line(&mut child), "ready\n");
    assert!(running("exec-away", "sleep 7777") >= 3);
    child.kill().expect("kill it");
    let _ = child.wait();
    until("all have ended", || running("exec-away", "7777") == 0);
    assert_eq!(bed().shell("exec-away", "cat /tmp/heard"), "hup");
}

fn a_command_whose_time_is_up_is_ended() {
    let _vm = Instance::idle(bed(), "exec-time", &[]);
    let script = "trap 'echo asked' TERM; sleep 5555 & while :; do wait; done";
    let outcome = exec("exec-time", &["--timeout", "500ms"], &["sh", "-c", script]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (124, "asked\n"), "{outcome:?}");
    assert_eq!(running("exec-time", "5555"), 0);
    assert_eq!(exec("exec-time", &["--timeout", "1m"], &["sh", "-c", "exit 3"]).code, 3);
}

fn fifty_at_once() {
    let _vm = Instance::idle(bed(), "exec-fifty", &[]);
    assert_eq!(exec("exec-fifty", &[], &["true"]).code, 0);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..50)
            .map(|number| {
                scope.spawn(move || {
                    let script = format!("head -c 100000 /dev/zero | tr '\\0' x; exit {number}");
                    exec("exec-fifty", &[], &["sh", "-c", &script])
                })
            })
            .collect();
        for (number, one) in all.into_iter().enumerate() {
            let outcome = one.join().expect("no panic");
            assert_eq!(
                (outcome.code, outcome.stdout.len()),
                (i32::try_from(number).expect("small"), 100_000)
            );
        }
    });
}

/// The session ends with an error that tells why, and the next one works.
fn breaks_and_works_again(name: &str, mut child: Child, word: &str) {
    let code = child.wait().expect("its end").code();
    let mut error = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut error).expect("read");
    assert!(code.is_some_and(|code| code != 0) && error.contains(word), "{code:?}: {error}");
    assert_eq!(bed().shell(name, "echo again"), "again");
    until("what it did has ended", || running(name, "6666") == 0);
}

fn the_agent_is_killed() {
    let _vm = Instance::idle(bed(), "exec-agent", &[]);
    let mut child = start(&["exec", "exec-agent", "sh", "-c", "setsid sleep 6666 & echo ready; sleep 6666"]);
    assert_eq!(first_line(&mut child), "ready\n");
    let agent =
        bed().shell("exec-agent", "pidof hypeman-init init exe; grep -lz '^agent$' /proc/[0-9]*/cmdline");
    let agent = agent
        .lines()
        .find_map(|line| line.strip_prefix("/proc/")?.strip_suffix("/cmdline"))
        .expect("an agent");
    let _ = exec("exec-agent", &[], &["kill", "-9", agent]);
    breaks_and_works_again("exec-agent", child, "agent");
}

fn an_agent_that_is_stuck_costs_only_those_who_speak_with_it() {
    let program = "trap 'exit 3' TERM; while :; do grep -q 'T (stopped)' /proc/[0-9]*/status && echo stopped; sleep 0.2; done";
    let vm = Instance::run(bed(), "exec-stuck", &[busybox(), "sh", "-c", program]);
    let list = bed().ok(&["top", "--format", "json", "exec-stuck"]);
    let agent = list.lines().find(|line| line.ends_with("agent\"}")).expect("an agent");
    let agent: serde_json::Value = serde_json::from_str(agent).expect("JSON");
    let mut child = start(&["exec", "exec-stuck", "sh", "-c", &format!("kill -STOP {}", agent["pid"])]);
    let _ = vm.read_until("stopped");
    bed().ok(&["standby", "exec-stuck"]);
    assert_ne!(child.wait().expect("its end").code(), Some(0), "whoever spoke with it is told");
    bed().ok(&["restore", "exec-stuck"]);
    let mut waits = start(&["exec", "exec-stuck", "true"]);
    bed().ok(&["pause", "exec-stuck"]);
    bed().ok(&["resume", "exec-stuck"]);
    // By the power button, then.
    bed().ok(&["stop", "exec-stuck"]);
    assert_eq!(bed().inspect("exec-stuck")["end"]["exit_code"], 3);
    assert_ne!(waits.wait().expect("its end").code(), Some(0));
}

fn the_shim_is_killed() {
    let vm = Instance::idle(bed(), "exec-shim", &[]);
    let mut child = start(&["exec", "exec-shim", "sh", "-c", "setsid sleep 6666 & echo ready; sleep 6666"]);
    assert_eq!(first_line(&mut child), "ready\n");
    vm.kill("shim");
    breaks_and_works_again("exec-shim", child, "agent");
}

fn a_vm_sleeps_in_the_middle() {
    let _vm = Instance::idle(bed(), "exec-sleeps", &[]);
    let mut child = start(&["exec", "exec-sleeps", "sh", "-c", "setsid sleep 6666 & echo ready; sleep 6666"]);
    assert_eq!(first_line(&mut child), "ready\n");
    bed().ok(&["standby", "exec-sleeps"]);
    let code = child.wait().expect("its end").code();
    assert_ne!(code, Some(0));
    bed().fails(&["exec", "exec-sleeps", "true"], &["exec-sleeps", "hypeman restore"]);
    bed().ok(&["restore", "exec-sleeps"]);
    breaks_and_works_again("exec-sleeps", child, "standby");
}

fn a_command_is_run_where_the_program_is_process_1() {
    let script = "echo mine > /tmp/mark; trap 'exit 0' TERM; while :; do sleep 1; done";
    let tar = with_supervisor();
    let image = "test/supervisor";
    if bed().run(&["image", "inspect", image]).code != 0 {
        bed().ok(&["image", "import", "--name", image, "--cmd", "/init", tar.to_str().expect("UTF-8")]);
    }
    let _vm = Instance::run(bed(), "exec-namespace", &[image, "/init", script]);
    let seen = eventually("its program has run", || {
        let outcome =
            exec("exec-namespace", &[], &["sh", "-c", "cat /tmp/mark && tr '\\0' ' ' < /proc/1/cmdline"]);
        (outcome.code == 0).then_some(outcome.stdout)
    });
    assert!(seen.contains("/init"), "process 1 is its own: {seen}");
    assert!(!bed().shell("exec-namespace", "ps").contains("kthreadd"), "and so are all others");
}

/// A root filesystem whose /init is a shell script's.
fn with_supervisor() -> std::path::PathBuf {
    let path = hypeman_tests::fixtures::directory().join("supervisor.tar");
    let root = tempfile::tempdir().expect("a directory");
    std::fs::copy(hypeman_tests::fixtures::busybox_tar(), &path).expect("copy");
    let init = root.path().join("init");
    std::fs::write(&init, "#!/bin/sh\nexec sh -c \"$1\" /init\n").expect("write");
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let appended = Command::new("tar").arg("-C").arg(root.path()).arg("-rf").arg(&path).arg("init").status();
    assert!(appended.expect("tar").success());
    path
}

fn what_cannot_be_run_is_told() {
    bed().fails(&["exec", "no-such-instance", "true"], &["no-such-instance", "hypeman ps"]);
    bed().ok(&["create", "--name", "exec-created", busybox(), "true"]);
    bed().fails(&["exec", "exec-created", "true"], &["exec-created", "hypeman start"]);
    bed().fails(&["exec", "exec-created"], &["COMMAND"]);
    bed().fails(&["exec", "-w", "relative", "exec-created", "true"], &["relative"]);
    bed().fails(&["exec", "-d", "-t", "exec-created", "true"], &["--tty"]);
    bed().ok(&["rm", "exec-created"]);
    let _guest = hypeman_tests::guest::Guest::new(bed(), "exec-bare").quiet().run();
    bed().fails(&["exec", "exec-bare", "true"], &["exec-bare", "agent"]);
    let vm = Instance::idle(bed(), "exec-paused", &[]);
    until("it runs", || vm.state() == "Running");
    bed().ok(&["pause", "exec-paused"]);
    bed().fails(&["exec", "exec-paused", "true"], &["paused"]);
    bed().ok(&["resume", "exec-paused"]);
    assert_eq!(bed().shell("exec-paused", "echo goes on"), "goes on");
}

/// A VM of an image on Cloud Hypervisor, whose kernel is the test guest: no Linux runs under the
/// KVM of such hosts as these tests have.
fn on_cloud_hypervisor<'a>(name: &str, arguments: &[&str]) -> Instance<'a> {
    let kernel = ["--kernel", testguest(), "--memory", "64m", "--accel", "kvm", "--confine", "off"];
    Instance::run(bed(), name, &[arguments, &kernel, &[busybox()]].concat())
}

/// The double's guest has no Linux either: its agent runs on the host, behind the double's vsock
/// socket, as nobody.
fn on_cloud_hypervisor_the_channel_is_vsock() {
    if is_real() {
        return; // no guest with an agent runs there
    }
    on_each(|arguments| {
        let name = "exec-vsock";
        let vm = on_cloud_hypervisor(name, arguments);
        let nobody = ["-u", "65534:65534"];
        let shell = |script: &str| exec(name, &nobody, &["sh", "-c", script]);
        let outcome = shell("echo out; echo err >&2; id -u; exit 7");
        assert_eq!(
            (outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()),
            (7, "out\n65534\n", "err\n")
        );
        let large = exec(name, &nobody, &["head", "-c", "10000000", "/dev/zero"]);
        assert_eq!((large.code, large.stdout.len()), (0, 10_000_000));
        std::thread::scope(|scope| {
            let many: Vec<_> = (0..30)
                .map(|number| {
                    scope.spawn(move || {
                        (number, exec(name, &nobody, &["sh", "-c", &format!("exit {number}")]))
                    })
                })
                .collect();
            for one in many {
                let (number, outcome) = one.join().expect("no panic");
                assert_eq!(outcome.code, number, "{outcome:?}");
            }
        });
        let scratch = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .expect("chmod");
        let [there, back] =
            ["there", "back"].map(|end| scratch.path().join(end).to_str().expect("UTF-8").to_owned());
        bed().ok(&["cp", testguest(), &format!("{name}:{there}")]);
        bed().ok(&["cp", &format!("{name}:{there}"), &back]);
        let read = |path: &str| std::fs::read(path).expect("read");
        assert!(read(testguest()) == read(&there) && read(&there) == read(&back));
        let mut child = start(&["exec", "-u", "65534:65534", name, "sh", "-c", "echo ready; sleep 60"]);
        assert_eq!(first_line(&mut child), "ready\n");
        vm.kill("shim");
        assert_ne!(child.wait().expect("its end").code(), Some(0));
        assert_eq!(shell("echo again").stdout, "again\n");
        bed().ok(&["standby", name]);
        bed().ok(&["restore", name]);
        assert_eq!(shell("echo and again").stdout, "and again\n");
    });
}

fn on_cloud_hypervisor_vsock_outlives_a_sleep() {
    on_each(|arguments| {
        let vm = on_cloud_hypervisor("vsock-sleeps", arguments);
        let socket = vm.directory().join("vmm/vsock.sock");
        vm.prints();
        assert!(socket.exists(), "its VMM has made it");
        for _ in 0..2 {
            bed().ok(&["standby", "vsock-sleeps"]);
            bed().ok(&["restore", "vsock-sleeps"]);
            assert!(socket.exists());
            vm.prints();
        }
        bed().ok(&["fork", "vsock-sleeps", "vsock-fork"]);
        let fork = Instance::named(bed(), "vsock-fork");
        fork.prints();
        assert!(fork.directory().join("vmm/vsock.sock").exists());
    });
}
