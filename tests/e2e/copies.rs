//! cp, stat and top: files and processes of a VM that runs, as docker shows them of a container.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use rustix::fs::{Gid, Uid};

use crate::promises;

promises! {
    [QEMU, BUSYBOX]
        a_copy_goes_where_dockers_goes,
        a_tree_goes_there_and_back_as_it_was,
        a_tar_stream_goes_in_and_out,
        what_cannot_be_copied_is_told_and_nothing_is_written,
        a_guest_that_changes_its_files_meanwhile_is_no_trouble,
        a_hostile_guest_writes_nothing_that_was_not_asked_for,
        an_instance_has_files_before_its_first_start,
        stat_and_top_tell_of_the_guest;
    [QEMU, BUSYBOX, Need::Root] owners_are_kept_with_a;
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn cp(source: &str, target: &str) {
    bed().ok(&["cp", source, target]);
}

fn a_copy_goes_where_dockers_goes() {
    let _vm = Instance::idle(bed(), "cp-rules", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    let here = |name: &str| text(&scratch.path().join(name)).to_owned();
    fs::write(here("file"), "one").expect("write");
    fs::create_dir_all(here("dir/sub")).expect("a directory");
    fs::write(here("dir/sub/inside"), "two").expect("write");

    cp(&here("file"), "cp-rules:/tmp/new-name");
    cp(&here("file"), "cp-rules:/tmp/new-name"); // over it
    cp(&here("file"), "cp-rules:/tmp");
    cp(&here("file"), "cp-rules:tmp/relative-to-the-root");
    assert_eq!(bed().shell("cp-rules", "cat /tmp/new-name /tmp/file /tmp/relative*"), "oneoneone");
    cp(&here("dir"), "cp-rules:/tmp/made");
    cp(&here("dir"), "cp-rules:/tmp/made");
    cp(&format!("{}/.", here("dir")), "cp-rules:/srv-of-ours");
    cp(&format!("{}/.", here("dir")), "cp-rules:/tmp/made/dir/sub");
    assert_eq!(
        bed().shell("cp-rules", "cat /tmp/made/sub/inside /tmp/made/dir/sub/inside /srv-of-ours/sub/inside"),
        "twotwotwo"
    );
    assert_eq!(bed().shell("cp-rules", "cat /tmp/made/dir/sub/sub/inside"), "two");
    // A link is written through in the guest, and copied as one unless it is to be followed.
    bed().shell("cp-rules", "ln -s file /tmp/leads-to-file; ln -s made /tmp/leads-to-dir");
    fs::write(here("file"), "three").expect("write");
    cp(&here("file"), "cp-rules:/tmp/leads-to-file");
    cp(&here("file"), "cp-rules:/tmp/leads-to-dir");
    assert_eq!(
        bed().shell("cp-rules", "readlink /tmp/leads-to-file; cat /tmp/file /tmp/made/file"),
        "file\nthreethree"
    );

    cp("cp-rules:/tmp/file", &here("fetched"));
    cp("cp-rules:/tmp/made", &here("fetched-dir"));
    cp("cp-rules:/tmp/made/.", &here("dir"));
    cp("cp-rules:/tmp/leads-to-file", &here("link"));
    bed().ok(&["cp", "-L", "cp-rules:/tmp/leads-to-file", &here("followed")]);
    assert_eq!(fs::read(here("fetched")).expect("read"), b"three");
    assert_eq!(fs::read(here("fetched-dir/sub/inside")).expect("read"), b"two");
    assert_eq!(fs::read(here("dir/dir/sub/inside")).expect("read"), b"two");
    assert_eq!(fs::read_link(here("link")).expect("a link"), Path::new("file"));
    assert_eq!(fs::read(here("followed")).expect("read"), b"three");
    assert!(!Path::new(&here("followed")).is_symlink());
}

fn a_tree_goes_there_and_back_as_it_was() {
    let _vm = Instance::idle(bed(), "cp-tree", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("closed")).expect("a directory");
    let large: Vec<u8> = (0..5_000_000_u32).map(|number| (number / 3) as u8).collect();
    fs::write(tree.join("closed/large"), &large).expect("write");
    fs::write(tree.join("program"), "#!/bin/sh\n").expect("write");
    fs::set_permissions(tree.join("program"), PermissionsExt::from_mode(0o751)).expect("chmod");
    fs::hard_link(tree.join("program"), tree.join("same")).expect("link");
    symlink("/nowhere/at all", tree.join("link")).expect("symlink");
    fs::write(tree.join("\u{e9} 'quoted' \"name\"\n"), "").expect("write");
    fs::set_permissions(tree.join("closed"), PermissionsExt::from_mode(0o500)).expect("chmod");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::open(tree.join("program")).and_then(|file| file.set_modified(time)).expect("a time");
    let sparse = File::create(tree.join("sparse")).expect("a file");
    sparse.set_len(2 << 30).and_then(|()| sparse.write_all_at(b"end", (2 << 30) - 3)).expect("a sparse file");
    drop(sparse);
    for number in 0..500 {
        fs::write(tree.join(format!("small-{number}")), number.to_string()).expect("write");
    }
    cp(text(&tree), "cp-tree:/tree");
    assert_eq!(
        bed().shell("cp-tree", "stat -c '%a %Y' /tree/program; stat -c %a /tree/closed; ls /tree | wc -l"),
        "751 1000000000\n500\n506"
    );
    assert_eq!(
        bed().shell("cp-tree", "test /tree/program -ef /tree/same && du -k /tree/sparse | cut -f1"),
        "4"
    );
    cp("cp-tree:/tree", text(&scratch.path().join("back")));
    let back = scratch.path().join("back");
    let difference =
        Command::new("diff").args(["-r", "--no-dereference"]).args([&tree, &back]).output().expect("diff");
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
    let program = back.join("program").metadata().expect("it");
    assert_eq!((program.mode() & 0o7777, program.mtime(), program.nlink()), (0o751, 1_000_000_000, 2));
    assert!(back.join("sparse").metadata().expect("it").blocks() < 1000);
}

fn a_tar_stream_goes_in_and_out() {
    let _vm = Instance::idle(bed(), "cp-stream", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    fs::write(scratch.path().join("a"), "from a stream").expect("write");
    let archive = Command::new("tar")
        .arg("-C")
        .arg(scratch.path())
        .args(["-cf", "-", "a"])
        .output()
        .expect("tar")
        .stdout;
    let mut child = bed().command(&["cp", "-", "cp-stream:/tmp"]).stdin(Stdio::piped()).spawn().expect("cp");
    child.stdin.take().expect("piped").write_all(&archive).expect("write");
    assert!(child.wait().expect("its end").success());
    let out = bed().command(&["cp", "cp-stream:/tmp", "-"]).output().expect("cp");
    assert!(out.status.success());
    let mut tar = Command::new("tar")
        .arg("-xOf")
        .args(["-", "tmp/a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar");
    tar.stdin.take().expect("piped").write_all(&out.stdout).expect("write");
    let mut text = String::new();
    tar.stdout.take().expect("piped").read_to_string(&mut text).expect("read");
    assert!(tar.wait().expect("its end").success());
    assert_eq!(text, "from a stream");
    // A file that is no archive is reported.
    let mut child = bed()
        .command(&["cp", "-", "cp-stream:/tmp"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cp");
    let _ = child.stdin.take().expect("piped").write_all(&[b'x'; 4096]);
    assert!(!child.wait().expect("its end").success());
}

fn what_cannot_be_copied_is_told_and_nothing_is_written() {
    let _vm = Instance::idle(bed(), "cp-errors", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    let here = |name: &str| text(&scratch.path().join(name)).to_owned();
    fs::write(here("file"), "").expect("write");
    fs::create_dir(here("dir")).expect("a directory");
    let fails = |source: &str, target: &str, words: &[&str]| bed().fails(&["cp", source, target], words);
    fails("cp-errors:/no/such", &here("x"), &["/no/such"]);
    fails(&here("no-such"), "cp-errors:/tmp", &["no-such"]);
    fails(&here("file"), "cp-errors:/no/such/x", &["/no/such"]);
    fails(&here("file"), "cp-errors:/tmp/new/", &["/tmp/new/"]);
    fails(&here("dir"), "cp-errors:/etc/passwd", &["/etc/passwd"]);
    fails("cp-errors:/etc", &here("file"), &["directory"]);
    fails("cp-errors:/etc/passwd", &here("no/where"), &["no"]);
    fails("cp-errors:/a", "cp-errors:/b", &["two instances"]);
    fails("a", "b", &["NAME:PATH"]);
    fails("nobody:/a", "b", &["nobody"]);
    fails(&here("file"), "cp-errors:/proc", &["guest"]);
    assert_eq!(fs::read_dir(scratch.path()).expect("read").count(), 2);
}

fn a_guest_that_changes_its_files_meanwhile_is_no_trouble() {
    let _vm = Instance::idle(bed(), "cp-changes", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    bed().ok(&["exec", "-d", "cp-changes", "sh", "-c", "while :; do echo line >> /tmp/grows; done"]);
    bed().ok(&[
        "exec",
        "-d",
        "cp-changes",
        "sh",
        "-c",
        "while :; do mkdir -p /tmp/d/x; echo > /tmp/d/x/y; rm -r /tmp/d/x; done",
    ]);
    until("it has grown", || {
        bed().shell("cp-changes", "stat -c %s /tmp/grows").parse::<u64>().is_ok_and(|size| size > 1000)
    });
    for number in 0..5 {
        let target = scratch.path().join(format!("copy-{number}"));
        cp("cp-changes:/tmp/grows", text(&target));
        let copy = fs::read_to_string(&target).expect("read");
        assert!(copy.lines().all(|line| line == "line" || "line".starts_with(line)), "{number}");
        let _ = bed().run(&["cp", "cp-changes:/tmp/d", text(&scratch.path().join(format!("dir-{number}")))]);
    }
}

fn a_hostile_guest_writes_nothing_that_was_not_asked_for() {
    let _vm = Instance::idle(bed(), "cp-hostile", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    fs::write(scratch.path().join("precious"), "mine").expect("write");
    // The agent sends the files as it finds them: a link where a directory was asked for, and a
    // file that claims to be in it.
    bed().shell(
        "cp-hostile",
        "mkdir -p /tmp/x/sub; ln -s / /tmp/x/sub/root; ln -s ../../.. /tmp/x/up; mkfifo /tmp/x/fifo; mknod /tmp/x/null c 1 3",
    );
    let outcome = bed().run(&["cp", "cp-hostile:/tmp/x", text(&scratch.path().join("got"))]);
    assert!(outcome.stderr.contains("device"), "{outcome:?}");
    // A second time over the links that are there now: nothing is written through them.
    bed().shell("cp-hostile", "rm /tmp/x/up; mkdir /tmp/x/up; echo theirs > /tmp/x/up/precious");
    bed().fails(&["cp", "cp-hostile:/tmp/x/.", text(&scratch.path().join("got"))], &["up"]);
    assert_eq!(fs::read(scratch.path().join("precious")).expect("read"), b"mine");
    assert!(!scratch.path().join("got/null").exists());
}

fn owners_are_kept_with_a() {
    let _vm = Instance::idle(bed(), "cp-owners", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("file");
    fs::write(&file, "").expect("write");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o4755)).expect("chmod");
    std::os::unix::fs::chown(&file, Some(Uid::from_raw(33).as_raw()), Some(Gid::from_raw(44).as_raw()))
        .expect("chown");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o4755)).expect("chmod");
    cp(text(&file), "cp-owners:/tmp/plain");
    bed().ok(&["cp", "-a", text(&file), "cp-owners:/tmp/kept"]);
    assert_eq!(bed().shell("cp-owners", "stat -c '%u:%g %a' /tmp/plain /tmp/kept"), "0:0 755\n33:44 4755");
    bed().ok(&["cp", "-a", "cp-owners:/tmp/kept", text(&scratch.path().join("back"))]);
    let back = scratch.path().join("back").metadata().expect("it");
    assert_eq!((back.uid(), back.gid(), back.mode() & 0o7777), (33, 44, 0o4755));
    cp("cp-owners:/tmp/kept", text(&scratch.path().join("ours")));
    let ours = scratch.path().join("ours").metadata().expect("it");
    assert_eq!((ours.uid(), ours.mode() & 0o7777), (0, 0o755));
}

fn stat_and_top_tell_of_the_guest() {
    let _vm = Instance::idle(bed(), "stat-and-top", &[]);
    bed().shell("stat-and-top", "printf 12345 > /tmp/file; chmod 640 /tmp/file; ln -s file /tmp/link");
    let told = |arguments: &[&str]| -> serde_json::Value {
        let outcome = bed().run(&[&["stat", "--format", "json"], arguments].concat());
        serde_json::from_str(&outcome.stdout).expect("JSON")
    };
    let file = told(&["stat-and-top", "/tmp/file"]);
    assert_eq!((&file["exists"], &file["is_file"], &file["size"]), (&true.into(), &true.into(), &5.into()));
    assert_eq!(file["mode"], 0o100_640);
    let link = told(&["stat-and-top", "/tmp/link"]);
    assert_eq!((&link["is_symlink"], &link["link_target"]), (&true.into(), &"file".into()));
    assert_eq!(told(&["-L", "stat-and-top", "/tmp/link"])["is_file"], true);
    assert_eq!(told(&["stat-and-top", "/tmp/nothing"])["exists"], false);
    assert!(bed().ok(&["stat", "stat-and-top", "/tmp/link"]).contains("-> file"));
    bed().fails(&["stat", "stat-and-top", "/tmp/nothing"], &["/tmp/nothing"]);

    bed().ok(&["exec", "-d", "-u", "web", "stat-and-top", "sleep", "5432"]);
    let table = bed().ok(&["top", "stat-and-top"]);
    let line = table.lines().find(|line| line.contains("sleep 5432")).expect("its line");
    assert!(line.contains("web") && !table.contains("kthreadd"), "{table}");
    let list = bed().ok(&["top", "--format", "json", "stat-and-top"]);
    let processes: Vec<serde_json::Value> =
        list.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let sleep = processes.iter().find(|process| process["command"] == "sleep 5432").expect("it");
    assert_eq!((&sleep["uid"], &sleep["user"]), (&33.into(), &"web".into()));
}

fn an_instance_has_files_before_its_first_start() {
    bed().ok(&["create", "--name", "cp-created", busybox(), "cat", "/etc/ours"]);
    let vm = Instance::named(bed(), "cp-created");
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("ours");
    fs::write(&file, "before the first start").expect("write");
    cp(text(&file), "cp-created:/etc");
    assert_eq!(bed().run(&["cp", "/no/such/file", "cp-created:/"]).code, 1);
    assert_eq!(bed().inspect("cp-created")["state"], "Created", "its program has not run");
    bed().ok(&["start", "cp-created"]);
    assert_eq!(vm.wait(), 0);
    assert_eq!(bed().ok(&["logs", "cp-created"]), "before the first start");
}
