//! Bad input: an error that names it, and nothing left behind.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use hypeman_tests::bed::Bed;
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::fixtures::{busybox_tar, testguest};
use hypeman_tests::needs::{BUSYBOX, Need, QEMU, find};

use crate::promises;

promises! {
    []
        bad_values_are_named,
        a_kernel_that_is_no_kernel,
        nobody_listens,
        an_empty_variable_is_none,
        a_shell_is_offered_names;
    [BUSYBOX]
        no_kernel_and_no_image,
        a_truncated_archive;
    [BUSYBOX, Need::Root] a_full_disk;
    [QEMU, Need::Root] what_failed_has_a_code;
    [QEMU]
        a_vmm_that_dies_at_once_has_the_first_word,
        a_vmm_that_cannot_start;
    [Need::Root] somebody_else_s_data_directory;
    [BUSYBOX, QEMU] what_can_never_start_is_not_created;
}

fn empty() -> (tempfile::TempDir, Bed) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    (scratch, bed)
}

fn assert_empty(bed: &Bed) {
    assert_eq!(bed.instance_directories(), Vec::<String>::new());
}

fn bad_values_are_named() {
    let (_scratch, bed) = empty();
    let run = |arguments: &[&str], words: &[&str]| {
        bed.fails(&[&["run", "-d", "--kernel", testguest()], arguments].concat(), words);
        assert_empty(&bed);
    };
    run(&["--memory", "0"], &["memory", "0"]);
    run(&["--memory", "lots"], &["lots"]);
    run(&["--name", "../x"], &["../x"]);
    run(&["--cpus", "0"], &["vCPU", "0"]);
    run(&["--log-max-size", "1"], &["--log-max-size"]);
    run(&["--env-file", "/no/such/file"], &["/no/such/file"]);
    run(&["--initrd", "/no/such/initrd"], &["/no/such/initrd"]);
    bed.fails(&["run"], &["image"]);
    bed.fails(&["start", "nobody"], &["nobody"]);
}

/// Fails with a code for scripts.
fn has_code(bed: &Bed, arguments: &[&str], exit: i32, code: &str) {
    let outcome = bed.run(arguments);
    assert_eq!(outcome.code, exit, "{arguments:?}: {}", outcome.stderr);
    let line = outcome.stderr.lines().last().expect("an error");
    let failure: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(failure["code"], code, "{failure}");
    assert!(failure["message"].as_str().is_some_and(|message| message.len() > code.len()), "{failure}");
}

fn what_failed_has_a_code() {
    let (scratch, bed) = empty();
    // Where the answer is JSON its error is too; elsewhere a script asks for that.
    has_code(&bed, &["port", "--format", "json", "nobody"], 1, "not-found");
    let bed = bed.with("HYPEMAN_ERROR_FORMAT", "json");
    has_code(&bed, &["rm", "nobody"], 1, "not-found");
    let run = |arguments: &[&str], bed: &Bed, code| {
        let guest = ["run", "-d", "--memory", "32m", "--kernel", testguest()];
        has_code(bed, &[&guest, arguments].concat(), 125, code);
        assert_empty(bed);
    };
    run(&["--cpus", "0"], &bed, "invalid");

    // QEMU's KVM refuses.
    let qemu = scratch.path().join("qemu");
    let real = find("qemu-system-x86_64").expect("QEMU");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) echo 'no KVM for you' >&2; exit 1;; esac\nexec {} \"$@\"\n",
        real.display()
    );
    std::fs::write(&qemu, text).expect("write");
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    run(&["--accel", "kvm"], &bed.with("HYPEMAN_QEMU", &qemu), "no-kvm");

    // The disk is full.
    let disk = SmallDisk::new("8k");
    let full = Bed::new(disk.path()).with("HYPEMAN_ERROR_FORMAT", "json");
    run(&[], &full, "disk-full");
}

fn a_kernel_that_is_no_kernel() {
    let (scratch, bed) = empty();
    let text = scratch.path().join("text");
    std::fs::write(&text, "no kernel").expect("write");
    let text = text.to_str().expect("UTF-8");
    bed.fails(&["run", "--kernel", text], &[text]);
    bed.fails(&["run", "--kernel", "/no/such/kernel"], &["/no/such/kernel"]);
    bed.fails(&["kernel", "import", "--name", "x", text], &[text]);
    assert_empty(&bed);
}

fn no_kernel_and_no_image() {
    let (_scratch, bed) = empty();
    let tar = busybox_tar();
    bed.ok(&["image", "import", "--name", "busybox", tar.to_str().expect("UTF-8")]);
    bed.fails(&["run", "busybox"], &["hypeman kernel pull"]);
    bed.fails(&["run", "127.0.0.1:1/no/such:image"], &["127.0.0.1:1/no/such:image"]);
    assert_empty(&bed);
}

fn a_truncated_archive() {
    let (scratch, bed) = empty();
    let bytes = std::fs::read(busybox_tar()).expect("read");
    let cut = scratch.path().join("cut.tar");
    std::fs::write(&cut, &bytes[..bytes.len() / 2 + 100]).expect("write");
    bed.fails(&["image", "import", "--name", "cut", cut.to_str().expect("UTF-8")], &["cut.tar"]);
    assert_eq!(bed.ok(&["image", "ls", "-q"]), "");
    // The same name, whole this time.
    bed.ok(&["image", "import", "--name", "cut", busybox_tar().to_str().expect("UTF-8")]);
    assert_eq!(bed.ok(&["image", "ls", "-q"]).lines().count(), 1);
}

fn a_full_disk() {
    let disk = SmallDisk::new("256k");
    let bed = Bed::new(disk.path());
    let tar = busybox_tar();
    bed.fails(&["image", "import", "--name", "busybox", tar.to_str().expect("UTF-8")], &["No space left"]);
    assert_eq!(bed.ok(&["image", "ls", "-q"]), "");
    let big = disk.path().join("fill");
    let _ = std::fs::write(&big, vec![1; 300 * 1024]); // takes what there is
    bed.fails(&["create", "--kernel", testguest()], &["No space left"]);
    std::fs::remove_file(&big).expect("make room");
    assert_empty(&bed);
    bed.ok(&["create", "--kernel", testguest()]);
}

fn a_vmm_that_cannot_start() {
    let (_scratch, bed) = empty();
    let mut command = bed.command(&["run", "--kernel", testguest(), "--name", "x"]);
    let output = command.env("HYPEMAN_QEMU", "/no/such/qemu").output().expect("hypeman run");
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/qemu"), "{output:?}");
    assert_empty(&bed);
}

fn a_vmm_that_dies_at_once_has_the_first_word() {
    let (scratch, bed) = empty();
    let qemu = scratch.path().join("qemu");
    let text = "#!/bin/sh\n[ \"$1\" = --version ] && echo QEMU emulator version 7.2.22 && exit\n\
                echo 'qemu: no room for the guest' >&2\nexit 1\n";
    std::fs::write(&qemu, text)
        .and_then(|()| std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)))
        .expect("write");
    let bed = bed.with("HYPEMAN_QEMU", &qemu);
    let outcome = bed.run(&["run", "--accel", "tcg", "--kernel", testguest(), "--name", "x"]);
    let words = outcome.stderr.split_once("could not be started: ").expect("a reason").1;
    assert!(words.starts_with("qemu: no room for the guest"), "{outcome:?}");
    assert!(!words.contains("qmp.sock"), "how we learned of it is no reason: {outcome:?}");
}

fn somebody_else_s_data_directory() {
    let scratch = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    // Where nobody can run it.
    let hypeman = scratch.path().join("hypeman");
    let bed = Bed::new(&scratch.path().join("data"));
    std::fs::copy(&bed.hypeman, &hypeman).expect("copy");
    bed.ok(&["create", "--name", "theirs", "--kernel", testguest()]);
    let nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&hypeman);
        command.env("HYPEMAN_DATA_DIR", &bed.data_dir).args(arguments).uid(65534).gid(65534);
        command.output().expect("hypeman")
    };
    for arguments in [&["ps", "-a"][..], &["inspect", "theirs"]] {
        let output = nobody(arguments);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(words.contains("belongs to root"), "{arguments:?}: {output:?}");
    }
}

fn what_can_never_start_is_not_created() {
    let (scratch, bed) = empty();
    bed.ok(&["image", "import", "--name", "busybox", busybox_tar().to_str().expect("UTF-8")]);
    bed.ok(&["kernel", "import", "--name", "any", testguest()]);
    let image = "busybox";
    bed.fails(&["create", "--disk-bps", "0", image], &["--disk-bps"]);
    let file = scratch.path().join("large.env");
    let name = file.to_str().expect("UTF-8");
    let (one, many) = (vec![131_072], vec![100_000; 20]);
    for (sizes, words) in [(one, "128 KiB"), (many, "1024 KiB")] {
        let line = |(number, size): (usize, usize)| format!("A{number}={}\n", "x".repeat(size));
        std::fs::write(&file, sizes.into_iter().enumerate().map(line).collect::<String>()).expect("write");
        bed.fails(&["create", "--env-file", name, image], &[words]);
    }
    let init = ["create", "-u", "web", "--entrypoint", "/sbin/init", image];
    bed.fails(&init, &["web", "init"]);
    bed.fails(&["create", "-w", "/tmp", "--entrypoint", "/sbin/init", image], &["/tmp", "init"]);
    bed.fails(&["create", "-w", "tmp", image], &["tmp", "absolute"]);
    assert_empty(&bed);
}

/// Whose output is read by nobody ends without a word, and not by a panic.
fn nobody_listens() {
    let (_scratch, bed) = empty();
    for arguments in [
        &["completion", "bash"][..],
        &["--help"],
        &["ps"],
        &["doctor"],
        &["no-such-command"],
        &["inspect", "x"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = bed.command(arguments);
        command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
        let status = command.status().expect("hypeman");
        assert!(status.code().is_some_and(|code| code < 3), "{arguments:?}: {status}");
    }
}

fn an_empty_variable_is_none() {
    let (scratch, bed) = empty();
    let bed = bed.with("HYPEMAN_DATA_DIR", "").with("HYPEMAN_INIT", "").with("XDG_DATA_HOME", scratch.path());
    bed.ok(&["ps"]); // in the usual place
}

fn a_shell_is_offered_names() {
    let (_scratch, bed) = empty();
    for name in ["web-1", "web-2", "db"] {
        bed.ok(&["create", "--name", name, "--kernel", testguest()]);
    }
    let script = bed.ok(&["completion", "bash"]);
    // As bash does it: the script is read, and its function asked for what may follow `hypeman stop
    // we`.
    let directory = bed.hypeman.parent().expect("a directory").display().to_string();
    let ask = format!(
        "PATH={directory}:$PATH; {script}\nCOMP_WORDS=(hypeman stop we); COMP_CWORD=2; COMP_TYPE=9; \
         _clap_complete_hypeman hypeman we stop; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let mut bash = std::process::Command::new("bash");
    bash.env("HYPEMAN_DATA_DIR", &bed.data_dir).args(["-c", &ask]).stdin(Stdio::null());
    let output = bash.output().expect("bash");
    let offered = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(offered.split_whitespace().collect::<Vec<_>>(), ["web-1", "web-2"], "{output:?}");
}
