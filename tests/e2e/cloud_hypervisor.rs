//! Cloud Hypervisor: a serial line that no truncation can corrupt.

use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hypeman_record::program::Program;
use hypeman_record::spec::{Accelerator, HypervisorKind, VmSpec};
use hypeman_tests::bed::Bed;
use hypeman_tests::ch::{ByHand, connect, is_real, programs, saboteur};
use hypeman_tests::console::{assert_no_hole, files, whole};
use hypeman_tests::disk::FreezableDisk;
use hypeman_tests::fixtures::{bed, busybox, testguest};
use hypeman_tests::needs::{BUSYBOX, LOGROTATE, Need};
use hypeman_tests::processes::{is_alive, shim};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use hypeman_vmm::cloud_hypervisor::snapshot::prepare_restore;
use hypeman_vmm::findings::Findings;
use hypeman_vmm::hypervisor::{Origin, Vmm};
use hypeman_vmm::process::VmmProcess;
use rustix::process::{Pid, Signal, kill_process};
use testguest::check::Sequence;
use testguest::{Finish, Options};

use crate::console::{assert_complete, copytruncate_five_times, wait_for_growth};
use crate::promises;

const CH: Need = Need::CloudHypervisor;

promises! {
    [CH]
        a_file_has_a_hole_after_a_truncation,
        whole_through_rotations,
        fifty_runs_begin_with_line_0,
        whole_when_everyone_is_killed,
        killed_mid_line,
        dead_at_each_stage,
        a_second_client_leaves_a_gap_that_is_told,
        what_is_lost_with_the_vmm_is_told,
        no_log_no_vm,
        a_data_directory_200_characters_deep,
        paused_from_outside,
        an_old_snapshot_comes_back_on_a_socket,
        resets,
        its_version_is_told;
    [CH, LOGROTATE] no_hole_after_copytruncate;
    [CH, Need::Root] whole_when_the_disk_stalls;
    [CH, BUSYBOX] a_linux_image_where_kvm_works_or_a_clear_word;
}

fn arguments<'a>(program: &'a str, cmdline: &'a str) -> Vec<&'a str> {
    let hypervisor = ["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", program];
    [&hypervisor[..], &["--kernel", testguest(), "--memory", "32m", "--cmdline", cmdline]].concat()
}

fn run<'a>(bed: &'a Bed, name: &str, program: &str, options: &Options, more: &[&str]) -> Instance<'a> {
    let cmdline = options.to_string();
    Instance::run(bed, name, &[&arguments(program, &cmdline)[..], more].concat())
}

/// Lines of the test guest; each byte is two exits of a vCPU, which on a nested host take 50 us.
fn options(count: u64) -> Options {
    Options { count, ..Options::default() }
}

fn a_file_has_a_hole_after_a_truncation() {
    for program in programs() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("app.log");
        let vmm = ByHand::start(program, directory.path());
        let config = serde_json::json!({
            "payload": {"kernel": testguest(), "cmdline": options(0).to_string()},
            "memory": {"size": 32 << 20},
            "serial": {"mode": "File", "file": log},
            "console": {"mode": "Off"},
        });
        vmm.put("vm.create", &config);
        vmm.put("vm.boot", &serde_json::Value::Null);
        wait_for_growth(&log, 4096);
        std::fs::File::options().write(true).open(&log).expect("open").set_len(0).expect("truncate");
        wait_for_growth(&log, 4096);
        assert_eq!(std::fs::read(&log).expect("read")[0], 0, "the bug that this driver is there for");
    }
}

fn no_hole_after_copytruncate() {
    for program in programs() {
        let vm = run(bed(), "ch-copytruncate", program, &options(0), &[]);
        copytruncate_five_times(&options(0), &vm.directory().join("logs/app.log"), 4096);
    }
}

fn whole_through_rotations() {
    for program in programs() {
        let options = options(1000);
        let vm = run(
            bed(),
            "ch-rotations",
            program,
            &options,
            &["--log-max-size", "4k", "--log-max-files", "1000"],
        );
        assert_eq!(vm.wait(), 0);
        let log = vm.directory().join("logs/app.log");
        assert!(files(&log).len() > 10);
        assert_complete(&options, &whole(&log));
    }
}

fn fifty_runs_begin_with_line_0() {
    for program in programs() {
        let options = options(3);
        let cmdline = options.to_string();
        for _ in 0..50 {
            let output = bed().ok(&[&["run", "--rm"][..], &arguments(program, &cmdline)].concat());
            assert_complete(&options, format!("{output}\n").as_bytes());
        }
    }
}

fn whole_when_everyone_is_killed() {
    for program in programs() {
        let options = options(1000);
        let vm = run(bed(), "ch-killed", program, &options, &[]);
        for round in 0_u64..20 {
            let mut followers = [vm.follow(), vm.follow()];
            // Random moments: somewhere between the follower's first instructions and its work.
            std::thread::sleep(Duration::from_millis(round * 37 % 51));
            for follower in &mut followers {
                follower.kill().expect("kill -9 a follower");
                follower.wait().expect("a follower");
            }
        }
        assert_eq!(vm.wait(), 0);
        assert_complete(&options, &whole(&vm.directory().join("logs/app.log")));
    }
}

/// Five seconds in which no write to the log's disk comes back. The double before v53 is given the
/// time to fill the buffer.
fn whole_when_the_disk_stalls() {
    for (index, program) in programs().iter().enumerate() {
        let disk = FreezableDisk::new();
        let bed = Bed::new(&disk.path().join("data"));
        let fast = !is_real() && index == 1;
        let options = options(if fast { 150_000 } else { 3000 });
        let vm = run(&bed, "ch-stalled", program, &options, &[]);
        let log = vm.directory().join("logs/app.log");
        wait_for_growth(&log, 1000);
        let vmm = vm.pid("vmm");
        disk.freeze_while(|| {
            std::thread::sleep(Duration::from_secs(5));
            if fast {
                wait_until_held_up(vmm);
            }
        });
        assert_eq!(vm.wait(), 0);
        assert_complete(&options, &whole(&log));
        let told = bed.ok(&["logs", "--source", "hypeman", "ch-stalled"]).contains("the disk was slower");
        assert_eq!(told, fast, "a pause is told, and only when there was one");
    }
}

/// Waits until the guest of a VMM is held up by whoever reads its console: its vCPU has been in the
/// same write for a second, and has not run. On a busy host one that has not run may only have got
/// no CPU.
fn wait_until_held_up(vmm: u32) {
    let seen = || {
        let threads = std::fs::read_dir(format!("/proc/{vmm}/task")).expect("it lives").flatten();
        let read = |thread: &std::fs::DirEntry, file: &str| {
            std::fs::read_to_string(thread.path().join(file)).unwrap_or_default()
        };
        let vcpu = threads.into_iter().find(|thread| read(thread, "comm").trim() == "vcpu0").expect("a vCPU");
        let stat = read(&vcpu, "stat");
        // utime and stime, fields 14 and 15 (proc(5)), the 12th and 13th behind the name.
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_ascii_whitespace().collect();
        (fields[11].to_owned(), fields[12].to_owned(), read(&vcpu, "syscall"))
    };
    // write(2), and sendto(2) for a socket.
    let writes = |call: &str| ["1 ", "44 "].iter().any(|number| call.starts_with(number));
    until("the guest is held up", || {
        let before = seen();
        std::thread::sleep(Duration::from_secs(1));
        writes(&before.2) && seen() == before
    });
}

fn killed_mid_line() {
    for program in programs() {
        let vm = run(bed(), "ch-mid-line", program, &options(0), &[]);
        let log = vm.directory().join("logs/app.log");
        wait_for_growth(&log, 1000);
        vm.kill("vmm");
        assert_eq!(vm.wait(), 137);
        Sequence::new(&options(0)).check(&whole(&log)).unwrap_or_else(|broken| panic!("{broken:?}"));
        let inspected = bed().inspect("ch-mid-line");
        assert_eq!(inspected["state"], "Stopped");
        assert!(inspected["end"]["message"].as_str().expect("a message").contains("signal 9"), "{inspected}");
        assert!(!vm.directory().join("vmm/serial.sock").exists(), "the reader removes what CH left");
    }
}

/// A Cloud Hypervisor that dies before it binds the line, after that, and while it boots: nothing
/// is left of it, and the next start works.
fn dead_at_each_stage() {
    let die_when = |condition: &str| {
        format!("REAL \"$@\" & while ! {condition}; do :; done; kill -9 $!; wait $! 2>/dev/null; exit 1")
    };
    let stages = [
        "exit 1".to_owned(),
        "REAL \"$@\" & kill -9 $!; wait $! 2>/dev/null; exit 1".to_owned(),
        die_when("[ -S serial.sock ]"),
        die_when("grep -qs vcpu0 /proc/$!/task/*/comm"),
    ];
    let scratch = tempfile::tempdir().expect("a directory");
    for program in programs() {
        for (stage, text) in stages.iter().enumerate() {
            let name = format!("ch-dies-{stage}");
            let broken = saboteur(scratch.path(), &name, program, text);
            let cmdline = options(0).to_string();
            // The program that plays these tricks starts processes, and signals them.
            let create =
                [&["create", "--confine", "off", "--name", &name][..], &arguments(&broken, &cmdline)]
                    .concat();
            bed().ok(&create);
            let vm = Instance::named(bed(), &name);
            for _ in 0..5 {
                // Death may come after the start has been reported.
                if bed().run(&["start", &name]).code == 0 {
                    assert_ne!(vm.wait(), 0);
                }
                assert_nothing_left(&vm.directory());
            }
            let _ = saboteur(scratch.path(), &name, program, "exec REAL \"$@\"");
            bed().ok(&["start", &name]);
            assert!(!vm.read_until("0000000000 ").is_empty());
        }
    }
}

fn assert_nothing_left(directory: &Path) {
    for socket in ["vmm/serial.sock", "ch.sock", "ch.sock.lock"] {
        assert!(!directory.join(socket).exists(), "{socket} is left");
    }
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let inside = |process: &std::fs::DirEntry| {
        std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == directory)
    };
    // The shim lives until it has answered; whoever waited for it knows that it ended.
    let left: Vec<_> = processes
        .filter(inside)
        .map(|process| std::fs::read_to_string(process.path().join("comm")).unwrap_or_default())
        .filter(|name| !name.starts_with("hypeman"))
        .collect();
    assert!(left.is_empty(), "{left:?} is left");
}

fn a_second_client_leaves_a_gap_that_is_told() {
    for program in programs() {
        let vm = run(bed(), "ch-two", program, &options(0), &[]);
        let log = vm.directory().join("logs/app.log");
        wait_for_growth(&log, 1000);
        // It reads to the end: one that leaves output unread ends v53's serial thread for good
        // (docs/limits.md).
        let mut second = connect(&vm.directory().join("vmm/serial.sock"));
        second.shutdown(Shutdown::Write).expect("shut it down");
        std::io::copy(&mut second, &mut std::io::sink()).expect("read to the end");
        let told = || bed().ok(&["logs", "--source", "hypeman", "ch-two"]).contains("closed the line");
        until("the gap is told", told);
        let size = whole(&log).len() as u64;
        wait_for_growth(&log, size + 1000);
        assert_no_hole(&log);
    }
}

/// A Cloud Hypervisor as hypeman's driver finds it.
fn found(program: &str) -> Program {
    let driver = hypeman_vmm::hypervisor(HypervisorKind::CloudHypervisor);
    driver.discover(Some(Path::new(program)), &Findings::none()).expect("Cloud Hypervisor")
}

/// Whether the program is of a release that does not let its guest wait for whoever reads its
/// console.
fn holds_back(program: &str) -> bool {
    found(program).version.split('.').next().and_then(|release| release.parse().ok()) >= Some(53)
}

/// The shim gets no processor until the guest has ended. Releases that let the guest wait for it
/// lose nothing.
fn what_is_lost_with_the_vmm_is_told() {
    for program in programs() {
        let holds_back = holds_back(program);
        let (vm, shim, options) = stopped_midway(program);
        if holds_back {
            let vmm = vm.pid("vmm");
            until("the guest has ended", || !is_alive(vmm));
        }
        kill_process(shim, Signal::CONT).expect("let the shim go on");
        assert_eq!(vm.wait(), 0);
        let log = whole(&vm.directory().join("logs/app.log"));
        let lines = Sequence::new(&options).check(&log).unwrap_or_else(|broken| panic!("{broken:?}"));
        let told = bed().ok(&["logs", "--source", "hypeman", "ch-held-back"]).contains("holding output back");
        assert_eq!(told, lines != (0..1000), "{lines:?} of {program}");
        assert_eq!(told, holds_back, "the shim came too late to be too late");
    }
}

/// A VM whose shim was stopped when at most half of the guest's lines had come; the guest is slowed
/// until that succeeds, since a fast host prints a thousand lines before a test has found the shim.
fn stopped_midway(program: &str) -> (Instance<'static>, Pid, Options) {
    for exponent in 2..10 {
        let options = Options { pause: 10_u64.pow(exponent), ..options(1000) };
        let vm = run(bed(), "ch-held-back", program, &options, &[]);
        let Some(shim) = shim(&vm.directory()) else { continue };
        if kill_process(shim, Signal::STOP).is_ok() {
            let written = whole(&vm.directory().join("logs/app.log")).len() as u64;
            if written <= options.count * options.length / 2 {
                return (vm, shim, options);
            }
            kill_process(shim, Signal::CONT).expect("let the shim go on");
        }
    }
    panic!("no guest was caught midway");
}

fn no_log_no_vm() {
    for program in programs() {
        let cmdline = options(0).to_string();
        bed().ok(&[&["create", "--name", "ch-no-log"][..], &arguments(program, &cmdline)].concat());
        let vm = Instance::named(bed(), "ch-no-log");
        std::fs::create_dir(vm.directory().join("logs/app.log")).expect("a directory in its place");
        bed().fails(&["start", "ch-no-log"], &["app.log"]);
        let journal = bed().ok(&["logs", "--source", "hypeman", "ch-no-log"]);
        assert!(!journal.contains("as pid"), "nothing was started: {journal}");
    }
}

fn a_data_directory_200_characters_deep() {
    for program in programs() {
        let scratch = tempfile::tempdir().expect("a directory");
        let bed = Bed::new(&scratch.path().join("deep".repeat(25)).join("deeper".repeat(17)));
        let vm = run(&bed, "deep", program, &options(3), &[]);
        assert_eq!(vm.wait(), 0);
        assert_eq!(bed.ok(&["logs", "deep"]).lines().count(), 3);
    }
}

fn paused_from_outside() {
    for program in programs() {
        let vm = run(bed(), "ch-paused", program, &options(0), &[]);
        let vmm = ByHand::running(&vm.directory().join("ch.sock"));
        vmm.put("vm.pause", &serde_json::Value::Null);
        assert_eq!(bed().inspect("ch-paused")["state"], "Paused");
        vmm.put("vm.resume", &serde_json::Value::Null);
        assert_eq!(bed().inspect("ch-paused")["state"], "Running");
    }
}

/// A VM whose line went to a file is paused, kept and ended; its configuration is rewritten, and it
/// goes on where it was, on a socket that was connected before it was resumed.
fn an_old_snapshot_comes_back_on_a_socket() {
    for program in programs() {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, snapshot) = (directory.path().join("app.log"), directory.path().join("snapshot"));
        std::fs::create_dir(&snapshot).expect("a directory");
        let url = format!("file://{}", snapshot.display());
        let config = serde_json::json!({
            "payload": {"kernel": testguest(), "cmdline": options(0).to_string()},
            "memory": {"size": 32 << 20},
            "serial": {"mode": "File", "file": log},
            "console": {"mode": "Off"},
        });
        let vmm = ByHand::start(program, directory.path());
        vmm.put("vm.create", &config);
        vmm.put("vm.boot", &serde_json::Value::Null);
        wait_for_growth(&log, 1000);
        vmm.put("vm.pause", &serde_json::Value::Null);
        vmm.put("vm.snapshot", &serde_json::json!({"destination_url": url}));
        drop(vmm);
        let mut bytes = std::fs::read(&log).expect("read");

        prepare_restore(&snapshot.join("config.json"), "serial.sock").expect("rewrite it");
        bytes.extend(restored(program, directory.path(), &snapshot, 2000));
        let lines = Sequence::new(&options(0)).check(&bytes).unwrap_or_else(|broken| panic!("{broken:?}"));
        assert_eq!(lines.start, 0);
    }
}

/// Restores a snapshot as hypeman's driver does, and reads the first bytes that the guest prints.
fn restored(program: &str, directory: &Path, snapshot: &Path, length: usize) -> Vec<u8> {
    let driver = hypeman_vmm::hypervisor(HypervisorKind::CloudHypervisor);
    let program = found(program);
    let spec = VmSpec {
        by_descriptor: false,
        ..VmSpec::new("restored", testguest().into(), 32 << 20, Accelerator::Kvm)
    };
    let restore = async {
        let origin = Origin::Restore(snapshot);
        let start = driver.command(&program, directory, &spec, origin).expect("prepare");
        let (process, []) = VmmProcess::start(start, &directory.join("vmm.pid"), []).expect("start it");
        let process = Rc::new(process);
        let vmm = Vmm { program: &program, directory, process: &process, network: None };
        let vm = driver.create(vmm, &spec, origin).await.expect("restore");
        let console = vm.console().await.expect("connect");
        vm.boot().await.expect("resume");
        let mut bytes = vec![0; length];
        let mut line = UnixStream::from(console.output);
        line.set_nonblocking(false).and_then(|()| line.read_exact(&mut bytes)).expect("read");
        process.kill().expect("kill");
        bytes
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, restore)
}

fn resets() {
    for program in programs() {
        let options = Options { finish: Finish::Reset, ..options(10) };
        let vm = run(bed(), "ch-resets", program, &options, &[]);
        assert_eq!(vm.wait(), 125);
        assert_eq!(bed().inspect("ch-resets")["end"]["reason"], "guest-reset");
        assert_complete(&options, &whole(&vm.directory().join("logs/app.log")));
    }
}

fn a_linux_image_where_kvm_works_or_a_clear_word() {
    let doctor = bed().run(&["doctor", "--format", "json"]).stdout;
    let kvm = doctor.lines().find(|line| line.contains("\"kvm\"")).expect("a line about KVM");
    let arguments = ["run", "--rm", "--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", &programs()[0]];
    let arguments = [&arguments[..], &[busybox(), "echo", "hello"]].concat();
    if kvm.contains("\"ok\"") && is_real() {
        assert_eq!(bed().ok(&arguments), "hello");
    } else if !kvm.contains("\"ok\"") {
        bed().fails(&arguments, &["KVM", "--hypervisor qemu"]);
    }
}

fn its_version_is_told() {
    for program in programs() {
        let doctor = bed().run(&["doctor", "--format", "json", "--cloud-hypervisor", program]).stdout;
        let line =
            doctor.lines().find(|line| line.contains("\"cloud-hypervisor\"")).expect("a line").to_owned();
        assert!(line.contains("\"ok\"") && line.contains(program), "{line}");
        let vm = run(bed(), "ch-version", program, &options(1), &[]);
        let recorded = bed().inspect("ch-version")["run"]["hypervisor"].as_str().expect("a text").to_owned();
        assert!(line.contains(&recorded), "{recorded} is not in {line}");
        let _ = vm.wait();
    }
}
