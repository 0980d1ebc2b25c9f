//! Typing to a guest: attached to one that runs, and in the foreground.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::ch;
use hypeman_tests::console::{assert_whole, whole};
use hypeman_tests::fixtures::{PASSWORD, bed, busybox, debian};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, MMDEBSTRAP, Need, QEMU};
use hypeman_tests::processes::KilledOnDrop;
use hypeman_tests::terminal::Terminal;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{until, within};
use rustix::process::Signal;

use crate::promises;

promises! {
    [QEMU]
        several_type_to_one_guest_and_leave_it,
        a_terminal_is_as_before_whatever_ends_its_client,
        keys_reach_the_guest_also_through_another_shim,
        a_client_that_does_not_read_is_felt_by_nobody,
        what_does_not_run_has_no_keyboard;
    [Need::CloudHypervisor] several_type_to_one_guest_on_cloud_hypervisor;
    [QEMU, BUSYBOX]
        a_program_reads_what_is_piped_to_it_to_its_end,
        a_program_has_a_terminal_of_its_own,
        a_long_paste_comes_back_whole;
    [QEMU, MMDEBSTRAP, Need::Root] one_can_log_in_to_a_system;
}

const DETACH: &[u8] = b"\x10\x11";

/// Somebody who sits at a terminal, attached.
struct Person {
    terminal: Terminal,
    client: KilledOnDrop,
}

impl Person {
    fn attached(bed: &Bed, arguments: &[&str]) -> Person {
        let terminal = Terminal::new();
        let client = KilledOnDrop(terminal.start(bed.command(&[&["attach"], arguments].concat())));
        Person { terminal, client }
    }

    /// Waits for the end of the client; returns the exit code.
    fn end(&mut self) -> Option<i32> {
        let code = self.client.0.wait().expect("its end").code();
        assert!(self.terminal.is_cooked(), "the terminal is as it was");
        code
    }

    fn kill(&self, signal: Signal) {
        let pid = i32::try_from(self.client.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("kill");
    }
}

fn several_type_to_one_guest_and_leave_it() {
    let _vm = Guest::new(bed(), "typed-to").quiet().run();
    several_type_to(bed(), "typed-to");
}

fn several_type_to_one_guest_on_cloud_hypervisor() {
    ch::on_each(|program| {
        let _vm = Guest::new(bed(), "typed-to-ch").with(program).quiet().run();
        several_type_to(bed(), "typed-to-ch");
    });
}

/// The guest echoes what is typed.
fn several_type_to(bed: &Bed, name: &str) {
    let mut one = Person::attached(bed, &[name]);
    one.terminal.shows("0000000000 ");
    one.terminal.types(b"from one");
    one.terminal.shows("from one");
    let mut two = Person::attached(bed, &["--detach-keys", "ctrl-x", name]);
    // The recent history first.
    two.terminal.shows("from one");
    two.terminal.types(b"from two");
    one.terminal.shows("from two");
    let looker = Person::attached(bed, &["--read-only", name]);
    looker.terminal.shows("from two");
    looker.terminal.types(b"unheard");
    one.terminal.types(DETACH);
    assert_eq!(one.end(), Some(0));
    one.terminal.shows("keeps running");
    two.terminal.types(DETACH);
    two.terminal.types(b" still there\x18");
    assert_eq!(two.end(), Some(0));
    looker.terminal.shows("still there");
    let log = bed.ok(&["logs", name]);
    assert!(log.contains("from two\x10\x11 still there") && !log.contains("unheard"), "{log:?}");
}

fn a_terminal_is_as_before_whatever_ends_its_client() {
    let vm = Guest::new(bed(), "cooked").quiet().run();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130), (Signal::QUIT, 131)] {
        let mut person = Person::attached(bed(), &["cooked"]);
        until("it is raw", || !person.terminal.is_cooked());
        person.kill(signal);
        assert_eq!(person.end(), Some(code));
    }
    assert_eq!(vm.state(), "Running");
    let mut person = Person::attached(bed(), &["cooked"]);
    until("it is raw", || !person.terminal.is_cooked());
    bed().ok(&["kill", "cooked"]);
    assert_eq!(person.end(), Some(137), "it ends as the VM does");
}

fn keys_reach_the_guest_also_through_another_shim() {
    let vm = Guest::new(bed(), "typed-again").quiet().run();
    let person = Person::attached(bed(), &["typed-again"]);
    person.terminal.types(b"before");
    person.terminal.shows("before");
    let shim = vm.pid("shim");
    vm.kill("shim");
    until("another shim is there", || vm.pid("shim") != shim);
    // Input that comes while there is no shim may be lost.
    let is_heard = (0..100).any(|_| {
        person.terminal.types(b"after");
        let is_shown = || String::from_utf8_lossy(&person.terminal.shown()).contains("after");
        within(Duration::from_secs(1), || is_shown().then_some(())).is_some()
    });
    assert!(is_heard, "{}", String::from_utf8_lossy(&person.terminal.shown()));
}

fn a_client_that_does_not_read_is_felt_by_nobody() {
    let guest = Guest::new(bed(), "unread-attach").lines(100_000);
    let options = guest.options();
    let vm = guest.run();
    let mut command = bed().command(&["attach", "unread-attach"]);
    let mut client = command.stdout(Stdio::piped()).spawn().expect("hypeman attach");
    assert_eq!(vm.wait(), 0);
    assert_whole(&vm.log(), &options);
    drop(client.stdout.take());
    client.wait().expect("its end");
}

fn what_does_not_run_has_no_keyboard() {
    let _vm = Guest::new(bed(), "not-started").create();
    bed().fails(&["attach", "not-started"], &["not-started", "start"]);
    bed().fails(&["attach", "nobody"], &["nobody"]);
    bed().fails(&["attach", "--detach-keys", "escape", "not-started"], &["escape", "ctrl-p,ctrl-q"]);
}

fn a_program_reads_what_is_piped_to_it_to_its_end() {
    for piped in ["one\ntwo\n", "no end", ""] {
        let mut command = bed().command(&["run", "--rm", "-i", busybox(), "cat"]);
        let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("hypeman run");
        run.stdin.take().expect("piped").write_all(piped.as_bytes()).expect("write");
        let output = run.wait_with_output().expect("its end");
        assert_eq!(String::from_utf8_lossy(&output.stdout), piped);
        assert_eq!(output.status.code(), Some(0));
    }
}

fn a_program_has_a_terminal_of_its_own() {
    bed().fails(&["run", "--rm", "-it", busybox(), "sh"], &["not a terminal", "-t"]);
    let terminal = Terminal::new();
    let mut run = terminal.start(bed().command(&["run", "--rm", "--name", "tty", "-it", busybox(), "sh"]));
    terminal.shows("/ # ");
    terminal.types(b"tty; echo $TERM; id -u\r");
    terminal.shows("/dev/ttyS0\r\nxterm\r\n");
    // Interrupts are the program's. The shell itself takes none while it edits a line, so it is
    // another program that says when.
    terminal.types(b"sh -c 'echo asl\"\"eep; exec sleep 1000'\r");
    terminal.shows("asleep\r\n");
    terminal.types(b"\x03");
    terminal.shows("/ # ");
    terminal.types(b"exit 7\r");
    assert_eq!(run.wait().expect("its end").code(), Some(7));
    assert!(terminal.is_cooked());
}

fn a_long_paste_comes_back_whole() {
    let vm = Instance::run(bed(), "pasted", &["-i", busybox(), "cat"]);
    let line = |number: usize| format!("{number:06} {}\n", "0123456789abcdef".repeat(4));
    let pasted: String = (0..64 * 1024 / 72 + 1).map(line).collect();
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("pasted");
    std::fs::write(&file, &pasted).expect("write");
    let mut command = bed().command(&["attach", "pasted"]);
    let mut client = command.stdin(File::open(&file).expect("open")).spawn().expect("hypeman attach");
    until("all of it comes back", || whole(&vm.log()).len() >= pasted.len());
    assert_eq!(String::from_utf8_lossy(&whole(&vm.log())), pasted);
    client.kill().expect("kill");
    client.wait().expect("its end");
}

fn one_can_log_in_to_a_system() {
    let _vm = Instance::run(bed(), "login", &["--memory", "1g", debian()]);
    let mut person = Person::attached(bed(), &["login"]);
    person.terminal.shows("login: ");
    person.terminal.types(b"root\r");
    person.terminal.shows("Password: ");
    person.terminal.types(format!("{PASSWORD}\r").as_bytes());
    person.terminal.shows("# ");
    person.terminal.types(b"tty; echo I am $(id -un)\r");
    person.terminal.shows("/dev/ttyS0");
    person.terminal.shows("I am root");
    person.terminal.types(DETACH);
    assert_eq!(person.end(), Some(0));
}
