//! Bad input: an error that names it, and nothing left behind.

use hypeman_tests::bed::Bed;
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::fixtures::{busybox_tar, testguest};
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    ("errors::bad_values_are_named", &[], bad_values_are_named),
    ("errors::a_kernel_that_is_no_kernel", &[], a_kernel_that_is_no_kernel),
    ("errors::no_kernel_and_no_image", &[BUSYBOX], no_kernel_and_no_image),
    ("errors::a_truncated_archive", &[BUSYBOX], a_truncated_archive),
    ("errors::a_full_disk", &[BUSYBOX, Need::Root], a_full_disk),
    ("errors::a_vmm_that_cannot_start", &[QEMU], a_vmm_that_cannot_start),
];

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
