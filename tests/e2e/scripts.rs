//! Scripts: templates, filters, words and exit codes that they rely on, docker's.

use std::fs::OpenOptions;
use std::io::Read;
use std::process::{Command, Stdio};

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::needs::{BUSYBOX, QEMU};
use hypeman_tests::vm::Instance;

use crate::promises;

promises! {
    [] words_of_others_lead_to_ours, a_data_directory_that_is_not_there_is_named;
    [QEMU, BUSYBOX]
        instances_are_found_formatted_and_renamed,
        exit_codes_tell_what_became_of_a_command,
        a_boot_begins_a_line_of_its_own;
}

fn words_of_others_lead_to_ours() {
    for (line, instead) in [
        (&["rmi", "x"][..], "hypeman image rm"),
        (&["ls"], "hypeman ps"),
        (&["rm", "-fa"], "hypeman ps -aq"),
        (&["update", "-m", "1g", "x"], "--memory"),
    ] {
        let outcome = bed().run(line);
        assert_eq!(outcome.code, 2, "{line:?}");
        assert!(outcome.stderr.contains(instead), "{line:?}: {}", outcome.stderr);
    }
}

fn a_data_directory_that_is_not_there_is_named() {
    let scratch = tempfile::tempdir().expect("a directory");
    let mistyped = scratch.path().join("mistyped");
    let outcome = Bed::new(&mistyped).run(&["ps", "-a"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(outcome.stderr.contains(mistyped.to_str().expect("UTF-8")), "{}", outcome.stderr);
    assert!(!mistyped.exists(), "it was made");
}

fn instances_are_found_formatted_and_renamed() {
    let _vm = Instance::run(bed(), "scripts", &[busybox(), "sleep", "1000"]);
    let id = bed().inspect("scripts")["id"].as_str().expect("an id").to_owned();
    bed().ok(&["wait", "--for", "running", "--timeout", "2m", "scripts"]);
    let ps = |more: &[&str]| bed().ok(&[&["ps"], more].concat());
    assert_eq!(ps(&["-q", "--filter", "name=scripts", "--filter", "status=running"]).trim(), id);
    assert_eq!(ps(&["-q", "--filter", "name=scripts", "--filter", "status=exited"]), "");
    let format = "{{.Names}} {{.State}} {{.Image}}";
    assert_eq!(
        ps(&["--filter", "name=scripts", "--format", format]).trim(),
        format!("scripts Running {}", busybox())
    );
    assert_eq!(
        bed().ok(&["inspect", "-f", "{{.State.Status}} {{.Name}}", "scripts"]).trim(),
        "running scripts"
    );
    let outcome = bed().run(&["ps", "--format", "{{.Nothing}}"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("state"), "it names what there is: {}", outcome.stderr);
    bed().ok(&["rename", "scripts", "scripts-renamed"]);
    assert_eq!(bed().run(&["inspect", "scripts"]).code, 1);
    assert_eq!(bed().shell("scripts-renamed", "echo it runs on"), "it runs on");
    bed().ok(&["standby", "scripts-renamed"]);
    assert!(ps(&[]).contains("Standby for"), "one that sleeps is shown");
    bed().ok(&["kill", &id]);
}

fn exit_codes_tell_what_became_of_a_command() {
    let _vm = Instance::idle(bed(), "exit-codes", &[]);
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut command = bed().command(&["exec", "exit-codes", "echo", "hello"]);
    let output = command.stdout(full).stderr(Stdio::piped()).output().expect("exec");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("No space left"), "{told}");
    for end in [&["stop", "-t", "2"][..], &["kill"]] {
        let mut command = bed().command(&["exec", "exit-codes", "sh", "-c", "echo up; sleep 1000"]);
        let mut exec = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("exec");
        exec.stdout.as_mut().expect("piped").read_exact(&mut [0; 3]).expect("it runs");
        bed().ok(&[end, &["exit-codes"]].concat());
        let output = exec.wait_with_output().expect("its end");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(137), "{end:?}: {told}");
        assert!(told.contains("the VM ended"), "{end:?}: {told}");
        bed().ok(&["start", "exit-codes"]);
        bed().ok(&["wait", "--for", "running", "exit-codes"]);
    }
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("files.tar");
    bed().ok(&["export", "-o", file.to_str().expect("UTF-8"), "exit-codes"]);
    let listed = Command::new("tar").arg("-tf").arg(&file).output().expect("tar");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(names.lines().any(|name| name == "bin/busybox"), "{names}");
    assert!(!names.contains("proc/1/"), "the kernel's files are left out");
}

fn a_boot_begins_a_line_of_its_own() {
    let vm = Instance::run(bed(), "unended", &[busybox(), "printf", "without an end"]);
    assert_eq!(vm.wait(), 0);
    bed().ok(&["start", "unended"]);
    assert_eq!(vm.wait(), 0);
    let log = std::fs::read_to_string(vm.directory().join("logs/app.log")).expect("the log");
    assert_eq!(log, "without an endwithout an end", "the log itself has nothing that was not printed");
    let lines = bed().ok(&["logs", "--format", "json", "unended"]);
    let entries: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let texts: Vec<_> = entries.iter().map(|entry| entry["text"].as_str()).collect();
    assert_eq!(texts, [Some("without an end"); 2], "{lines}");
    assert_ne!(entries[0]["time"], entries[1]["time"]);
    assert_eq!(bed().ok(&["logs", "-t", "unended"]).lines().count(), 2);
}
