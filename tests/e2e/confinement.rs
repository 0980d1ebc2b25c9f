//! Nothing from outside gets more than it was given.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use command_fds::{CommandFdExt, FdMapping};
use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{bed, busybox, busybox_tar, kernel, testguest};
use hypeman_tests::needs::{BUSYBOX, Need, QEMU, find};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [QEMU]
        a_vmm_that_was_taken_over_gets_nothing,
        what_confines_a_vm_is_told_and_strict_means_all_of_it,
        a_caller_s_secrets_do_not_live_on_in_shim_and_vmm,
        all_below_the_data_directory_is_its_owner_s_alone;
    [QEMU, Need::Root]
        an_ordinary_user_s_vmm_that_was_taken_over_gets_nothing,
        a_program_that_only_root_can_reach_runs_all_the_same;
    [QEMU, BUSYBOX]
        all_of_it_can_be_had_on_an_ordinary_kernel,
        a_secret_of_an_instance_is_in_no_argument_list_and_in_no_log;
    []
        directories_of_older_releases_are_closed,
        what_comes_from_outside_is_printed_escaped;
}

/// A data directory that is not there yet.
fn empty() -> (tempfile::TempDir, Bed) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(&scratch.path().join("data"));
    (scratch, bed)
}

fn a_caller_s_secrets_do_not_live_on_in_shim_and_vmm() {
    let bed = bed();
    let secret = File::open("/etc/passwd").expect("open");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = bed.command(&["run", "-d", "--name", "clean", "--kernel", testguest()]);
    command.env("CALLERS_SECRET", "hunter2");
    let descriptors = vec![
        FdMapping { parent_fd: OwnedFd::from(secret), child_fd: 9 },
        FdMapping { parent_fd: OwnedFd::from(writer), child_fd: 23 },
    ];
    command.fd_mappings(descriptors).expect("map");
    let output = command.output().expect("hypeman run");
    drop(command); // with our copies
    assert!(output.status.success(), "{output:?}");
    let instance = Instance::named(bed, "clean");
    // Nobody has the pipe open any more: whoever waits for its end sees it now.
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut { reader }, &mut rest).expect("read");
    for process in ["shim", "vmm"] {
        let of = |file: &str| PathBuf::from(format!("/proc/{}/{file}", instance.pid(process)));
        let environment = std::fs::read(of("environ")).expect("its environment");
        assert!(!String::from_utf8_lossy(&environment).contains("hunter2"), "{process}");
        let open = std::fs::read_dir(of("fd")).expect("its descriptors").flatten();
        let open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        assert!(!open.contains(&PathBuf::from("/etc/passwd")), "{process}: {open:?}");
    }
}

fn a_vmm_that_was_taken_over_gets_nothing() {
    let intruder = Bed::new(Path::new("")).hypeman.with_file_name("escaped-vmm");
    attack(bed(), testguest(), &intruder);
}

/// Without root all VMs are the caller's.
fn an_ordinary_user_s_vmm_that_was_taken_over_gets_nothing() {
    const NOBODY: u32 = 65534;
    let (scratch, bed) = empty();
    // Where nobody can run it.
    for program in ["hypeman", "hypeman-init", "escaped-vmm"] {
        std::fs::copy(bed.hypeman.with_file_name(program), scratch.path().join(program)).expect("copy");
    }
    let kernel = scratch.path().join("kernel");
    std::fs::copy(testguest(), &kernel).expect("copy");
    for (path, mode) in [(scratch.path(), 0o755), (&kernel, 0o644)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let bed = bed.of(scratch.path().join("hypeman")).as_user(NOBODY);
    attack(&bed, kernel.to_str().expect("UTF-8"), &scratch.path().join("escaped-vmm"));
}

/// Runs a VM, and beside it a program in QEMU's place that goes for it.
fn attack(bed: &Bed, kernel: &str, intruder: &Path) {
    let victim = Instance::run(bed, "victim", &["--accel", "tcg", "--kernel", kernel]);
    let at = |path: &str| victim.directory().join(path).display().to_string();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut victims = vec![format!("port={}", listener.local_addr().expect("its address").port())];
    victims.extend(
        ["instance.json", "kernel", "logs/app.log", "vmm.pid", "vmm/console.out"]
            .map(|path| format!("file={}", at(path))),
    );
    victims.extend(["", "vmm", "../..", "disks"].map(|path| format!("list={}", at(path))));
    victims.extend(["shim.sock", "qmp.sock"].map(|path| format!("socket={}", at(path))));
    // Where others may be found by a relative path, and by the process of the same user.
    victims.extend(
        ["file=../instance.json", "file=../launch.json", "list=..", "socket=../shim.sock"].map(str::to_owned),
    );
    victims.extend(["shim", "vmm"].map(|process| format!("process={}", victim.pid(process))));
    let cmdline = victims.join(" ");
    let arguments = ["--accel", "tcg", "--kernel", kernel, "--cmdline", &cmdline];
    bed.ok(&[&["create", "--name", "intruder"], &arguments[..]].concat());
    let vm = Instance::named(bed, "intruder");
    let outcome = bed.clone().with("HYPEMAN_QEMU", intruder).run(&["start", "intruder"]);
    assert_eq!(outcome.code, 1, "it is no VMM: {outcome:?}");
    let log = std::fs::read_to_string(vm.directory().join("vmm/report")).expect("its report");
    assert!(log.contains("escaped-vmm is done"), "{log}");
    let got: Vec<&str> =
        log.lines().filter(|line| line.contains("GOT ") || line.contains("LACKS ")).collect();
    assert!(got.is_empty(), "{got:#?}\n{log}");
    assert!(log.matches("has ").count() >= 5, "what is its own it can use: {log}");
    victim.prints();
}

fn what_confines_a_vm_is_told_and_strict_means_all_of_it() {
    let bed = bed();
    let vm = Instance::run(bed, "confined", &["--accel", "tcg", "--kernel", testguest()]);
    let told = bed.inspect("confined")["run"]["confinement"].clone();
    let told = told.as_array().expect("measures");
    let missing: Vec<&str> = told
        .iter()
        .filter(|measure| measure["missing"].is_string())
        .filter_map(|m| m["measure"].as_str())
        .collect();
    for measure in ["landlock", "seccomp", "no-new-privileges", "user"] {
        assert!(!missing.contains(&measure), "{told:#?}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm.pid("vmm"))).expect("its status");
    let line = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).expect("a line").trim().to_owned()
    };
    assert_eq!(
        (line("CapEff:"), line("CapPrm:"), line("NoNewPrivs:")),
        ("0".repeat(16), "0".repeat(16), "1".to_owned())
    );
    if rustix::process::geteuid().is_root() {
        assert!(!line("Uid:").starts_with('0'), "{status}");
    }
    let arguments =
        std::fs::read_to_string(format!("/proc/{}/cmdline", vm.pid("vmm"))).expect("its arguments");
    assert!(
        arguments
            .contains("-sandbox\0on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
    );
    let doctor = bed.run(&["doctor", "--format", "json"]).stdout;
    assert!(doctor.contains("confine landlock") && doctor.contains("confine cgroup"), "{doctor}");
    let line = doctor.lines().find(|line| line.contains("\"vm confined\"")).expect("a line of its own");
    assert!(
        line.contains("confined by user") && missing.iter().all(|missing| line.contains(missing)),
        "{line}"
    );
    bed.ok(&["create", "--confine", "strict", "--name", "strict", "--accel", "tcg", "--kernel", testguest()]);
    let _strict = Instance::named(bed, "strict");
    if missing.is_empty() {
        bed.ok(&["start", "strict"]);
    } else {
        bed.fails(&["start", "strict"], &[missing[0], "--confine auto"]);
        assert_eq!(bed.inspect("strict")["state"], "Created");
    }
    let off =
        ["run", "-d", "--confine", "off", "--name", "unconfined", "--accel", "tcg", "--kernel", testguest()];
    bed.ok(&off);
    let _unconfined = Instance::named(bed, "unconfined");
    assert_eq!(bed.inspect("unconfined")["run"].get("confinement"), None);
}

fn all_of_it_can_be_had_on_an_ordinary_kernel() {
    let bed = bed();
    kernel();
    let scratch = tempfile::tempdir().expect("a directory");
    let tar = scratch.path().join("probe.tar");
    std::fs::copy(busybox_tar(), &tar).expect("copy");
    let built = Bed::new(Path::new("")).hypeman;
    let mut append = std::process::Command::new("tar");
    append.arg("-C").arg(built.parent().expect("a directory")).arg("-rf").arg(&tar).arg("strict-probe");
    assert!(append.status().expect("tar").success());
    bed.ok(&["image", "import", "--name", "strict-probe", tar.to_str().expect("UTF-8")]);
    let outcome = bed.run(&["run", "--rm", "--memory", "512m", "strict-probe", "/strict-probe"]);
    let told = &outcome.stdout;
    for word in ["memory: limited", "threads: limited", "cgroup removed: true", "strict-probe is done"] {
        assert!(told.contains(word) && !told.contains("removed: false"), "{word}: {outcome:?}");
    }
}

fn a_program_that_only_root_can_reach_runs_all_the_same() {
    let bed = bed();
    let scratch = tempfile::tempdir().expect("a directory");
    let qemu = scratch.path().join("qemu");
    let real = find("qemu-system-x86_64").expect("QEMU");
    std::fs::write(&qemu, format!("#!/bin/sh\nexec {} \"$@\"\n", real.display())).expect("write");
    std::fs::set_permissions(&qemu, PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).expect("chmod");
    let vm = Instance::run(bed, "roots", &["--accel", "tcg", "--kernel", testguest()]);
    bed.ok(&["kill", "roots"]); // from now on its files are the user's
    bed.clone().with("HYPEMAN_QEMU", &qemu).ok(&["start", "roots"]);
    vm.prints();
    let told = bed.inspect("roots")["run"]["confinement"].clone();
    let user =
        told.as_array().expect("measures").iter().find(|measure| measure["measure"] == "user").expect("one");
    let why = user["missing"].as_str().expect("it cannot be had");
    assert!(why.contains(scratch.path().to_str().expect("UTF-8")), "{why}");
}

fn a_secret_of_an_instance_is_in_no_argument_list_and_in_no_log() {
    const SECRET: &str = "correct-horse-battery-staple";
    let bed = bed();
    let scratch = tempfile::tempdir().expect("a directory");
    let env = scratch.path().join("env");
    std::fs::write(&env, format!("PASSWORD={SECRET}\n")).expect("write");
    let arguments = ["--env-file", env.to_str().expect("UTF-8"), busybox(), "sleep", "1000"];
    let vm = Instance::run(bed, "secretive", &arguments);
    until("its program runs", || vm.state() == "Running");
    let says_it =
        |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).contains(SECRET);
    let processes =
        std::fs::read_dir("/proc").expect("/proc").flatten().map(|process| process.path().join("cmdline"));
    let logs = all_below(&vm.directory().join("logs"));
    let found: Vec<PathBuf> = processes.chain(logs).filter(|path| says_it(path)).collect();
    assert!(found.is_empty(), "{found:?}");
    let environment = |process: &str| PathBuf::from(format!("/proc/{}/environ", vm.pid(process)));
    assert!(!says_it(&environment("shim")) && !says_it(&environment("vmm")));
}

/// All below a directory, itself included.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let entries = std::fs::read_dir(path).expect("a directory").flatten();
        all.extend(entries.flat_map(|entry| all_below(&entry.path())));
    }
    all
}

fn all_below_the_data_directory_is_its_owner_s_alone() {
    let (scratch, bed) = empty();
    // The kernel is another's to read, as in /boot; so is the umask that is there at the start.
    let kernel = scratch.path().join("kernel");
    std::fs::copy(testguest(), &kernel).expect("copy");
    std::fs::set_permissions(&kernel, PermissionsExt::from_mode(0o644)).expect("chmod");
    let mut command =
        bed.command(&["run", "-d", "--name", "private", "--kernel", kernel.to_str().expect("UTF-8")]);
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let output = command.output();
    rustix::process::umask(before);
    assert!(output.as_ref().is_ok_and(|output| output.status.success()), "{output:?}");
    let instance = Instance::named(&bed, "private");
    bed.ok(&["standby", "private"]);
    bed.ok(&["restore", "private"]);
    bed.ok(&["snapshot", "create", "private"]);
    let open: Vec<String> = all_below(&bed.data_dir)
        .into_iter()
        .filter_map(|path| Some((path.symlink_metadata().ok()?.mode() & 0o7777, path)))
        .filter(|(mode, _)| mode & 0o077 != 0)
        .map(|(mode, path)| format!("{} {mode:o}", path.display()))
        .collect();
    assert!(open.is_empty(), "{open:#?}");
    drop(instance);
}

fn directories_of_older_releases_are_closed() {
    let (_scratch, bed) = empty();
    let mode = |name: &str| bed.data_dir.join(name).metadata().expect("a directory").mode() & 0o777;
    for name in ["images", "instances", "other"] {
        std::fs::create_dir_all(bed.data_dir.join(name)).expect("a directory");
        std::fs::set_permissions(bed.data_dir.join(name), PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    bed.ok(&["ps"]);
    assert_eq!((mode("images"), mode("instances"), mode("other")), (0o700, 0o700, 0o755));
}

fn what_comes_from_outside_is_printed_escaped() {
    let (scratch, bed) = empty();
    let evil = scratch.path().join("evil\x1b]0;owned\x07.tar");
    std::fs::write(&evil, [1; 1024]).expect("write");
    let outcome = bed.run(&["image", "import", evil.to_str().expect("UTF-8")]);
    assert!(outcome.code != 0 && outcome.stderr.contains("evil^[]0;owned^G"), "{outcome:?}");
    assert!(!outcome.stderr.trim_end().contains(char::is_control), "{outcome:?}");
}
