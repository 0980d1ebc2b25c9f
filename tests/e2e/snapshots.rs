//! Named snapshots: what they keep outlives the instance, and can be had again, in place or as
//! another.

use std::process::Stdio;

use hypeman_tests::bed::Bed;
use hypeman_tests::ch::{ByHand, on_each, programs};
use hypeman_tests::console::{assert_no_hole, assert_whole, boots, whole};
use hypeman_tests::fixtures::{bed, busybox, testguest};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, LOGROTATE, Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{eventually, until};
use rustix::fs::{FileType, Mode};
use serde_json::{Value, json};
use testguest::Options;
use testguest::check::Sequence;

use crate::console::{copytruncate_five_times, wait_for_growth};
use crate::promises;

promises! {
    [QEMU]
        a_snapshot_outlives_its_instance,
        what_a_snapshot_cannot_be_is_told,
        a_vm_goes_on_whose_snapshot_was_broken_off,
        what_a_newer_release_has_added_stays;
    [Need::CloudHypervisor] a_snapshot_on_cloud_hypervisor_outlives_its_instance;
    [Need::CloudHypervisor, LOGROTATE] a_legacy_snapshot_comes_back_and_forks_on_a_socket;
    [QEMU, BUSYBOX] an_instance_is_put_back_to_what_it_was;
}

/// Fields that this release does not know, beside its own and within a part, in all that comes of
/// an instance.
fn what_a_newer_release_has_added_stays() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let source = Guest::new(&bed, "source").create();
    let record = |vm: &Instance| vm.directory().join("instance.json");
    let read = |path: &std::path::Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a record")).expect("JSON")
    };
    let add = |path: &std::path::Path, word: &str| {
        let mut value = read(path);
        value["future"] = word.into();
        value["log"]["future"] = word.into();
        std::fs::write(path, value.to_string()).expect("write it");
    };
    let has = |vm: &Instance, word: &str| {
        let value = read(&record(vm));
        assert_eq!((&value["future"], &value["log"]["future"]), (&json!(word), &json!(word)), "{}", vm.name);
    };
    add(&record(&source), "first");
    let id = bed.ok(&["snapshot", "create", "source"]);
    bed.ok(&["fork", "source", "fork"]);
    bed.ok(&["snapshot", "fork", &id, "of-snapshot"]);
    let forks = ["fork", "of-snapshot"].map(|name| Instance::named(&bed, name));
    forks.iter().for_each(|fork| has(fork, "first"));
    add(&record(&source), "second");
    bed.ok(&["rename", "source", "renamed"]);
    let renamed = Instance::named(&bed, "renamed");
    has(&renamed, "second");
    bed.ok(&["snapshot", "restore", "renamed", &id]);
    has(&renamed, "first"); // settings are the snapshot's
}

fn outlive(name: &str, arguments: &[&str]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let guest = Guest::new(&bed, name).with(arguments);
    let options = guest.options();
    let source = guest.run();
    source.prints();
    let id = bed.ok(&["snapshot", "create", "--name", "before", name]);
    assert_eq!(bed.inspect(name)["state"], "Running", "it goes on");
    source.prints();
    let listed: serde_json::Value =
        serde_json::from_str(&bed.ok(&["snapshot", "ls", "--format", "json"])).expect("JSON");
    assert_eq!(
        (&listed["id"], &listed["name"], &listed["kind"], &listed["source_instance_name"]),
        (&id.as_str().into(), &"before".into(), &"Standby".into(), &name.into())
    );
    assert!(listed["size_bytes"].as_u64().expect("a size") > 4096);
    bed.fails(&["snapshot", "restore", name, "before"], &[name, "Running", "hypeman stop"]);
    // Back in place: the log goes on, and the guest from where it was then.
    bed.ok(&["kill", name]);
    bed.ok(&["snapshot", "restore", name, "before"]);
    assert_eq!(bed.inspect(name)["state"], "Running");
    source.prints();
    bed.ok(&["kill", name]);
    assert_no_hole(&source.log());
    drop(source);
    // The instance is gone, and its snapshot is not.
    for new in ["one", "two"] {
        bed.ok(&["snapshot", "fork", &id[..6], new]);
        let fork = Instance::named(&bed, new);
        fork.prints();
        bed.ok(&["kill", new]);
        let whole = whole(&fork.log());
        let begin = whole.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
        let lines = Sequence::new(&options).check(&whole[begin..]);
        assert!(lines.unwrap_or_else(|broken| panic!("{broken:?}")).start > 0, "it goes on where that was");
    }
    bed.ok(&["snapshot", "rm", "before"]);
    assert_eq!(bed.ok(&["snapshot", "ls", "-q"]), "");
}

fn a_snapshot_outlives_its_instance() {
    outlive("kept", &[]);
}

fn a_snapshot_on_cloud_hypervisor_outlives_its_instance() {
    on_each(|arguments| outlive("kept-ch", arguments));
}

/// As hypeman of old and others have made them: the serial line ends in a file, and all paths are
/// absolute.
fn a_legacy_snapshot_comes_back_and_forks_on_a_socket() {
    for program in programs() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (old, snapshot) = (scratch.path().join("old"), scratch.path().join("old/snapshot-latest"));
        std::fs::create_dir_all(&snapshot).expect("a directory");
        let (log_of_old, disk) = (old.join("app.log"), old.join("disk.raw"));
        std::fs::write(&disk, vec![7; 1 << 20]).expect("a disk");
        let options = Options { count: 0, ..Options::default() };
        let vmm = ByHand::start(program, &old);
        let config = json!({
            "payload": {"kernel": testguest(), "cmdline": options.to_string()},
            "memory": {"size": 32 << 20},
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
            "disks": [{"path": disk, "image_type": "Raw"}],
            "serial": {"mode": "File", "file": log_of_old},
            "console": {"mode": "Off"},
        });
        vmm.put("vm.create", &config);
        vmm.put("vm.boot", &Value::Null);
        wait_for_growth(&log_of_old, 1000);
        vmm.put("vm.pause", &Value::Null);
        vmm.put("vm.snapshot", &json!({"destination_url": format!("file://{}", snapshot.display())}));
        drop(vmm);
        let printed = std::fs::read(&log_of_old).expect("read");

        let bed = Bed::new(&scratch.path().join("data")).with("HYPEMAN_CLOUD_HYPERVISOR", program);
        let directory = snapshot.to_str().expect("UTF-8");
        bed.fails(&["snapshot", "import", "--name", "legacy", "/nowhere"], &["/nowhere"]);
        // A file is not taken because a stranger's configuration names it.
        let disk = disk.to_str().expect("UTF-8");
        let import = ["snapshot", "import", "--name", "legacy"];
        bed.fails(&[&import[..], &[directory]].concat(), &[disk, "--disk"]);
        let fifo = snapshot.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("a FIFO");
        bed.fails(&[&import[..], &["--disk", disk, directory]].concat(), &["fifo", "no plain file"]);
        std::fs::remove_file(&fifo).expect("remove it");
        std::os::unix::fs::symlink("/etc/shadow", snapshot.join("extra")).expect("a link");
        bed.fails(&[&import[..], &["--disk", disk, directory]].concat(), &["extra", "a link"]);
        std::fs::remove_file(snapshot.join("extra")).expect("remove it");
        assert!(bed.ok(&["snapshot", "ls", "-q"]).is_empty(), "nothing is left");
        bed.ok(&[&import[..], &["--disk", disk, directory]].concat());
        std::fs::remove_dir_all(&old).expect("nothing of it is needed any more");
        bed.ok(&["snapshot", "fork", "legacy", "first"]);
        let first = Instance::named(&bed, "first");
        first.prints();
        let goes_on = [printed, whole(&first.log())].concat();
        let lines = Sequence::new(&options).check(&goes_on);
        assert_eq!(lines.unwrap_or_else(|broken| panic!("{broken:?}")).start, 0);
        bed.ok(&["fork", "first", "second"]);
        let second = Instance::named(&bed, "second");
        for vm in [&first, &second] {
            copytruncate_five_times(&options, &vm.log(), 2000);
        }
    }
}

fn what_a_snapshot_cannot_be_is_told() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let name = "kept-told";
    let vm = Guest::new(&bed, name).create();
    bed.fails(&["snapshot", "create", "--kind", "standby", name], &[name, "Created"]);
    bed.ok(&["snapshot", "create", "--name", "disks", name]);
    bed.fails(&["snapshot", "create", "--name", "disks", name], &["disks", "--name"]);
    bed.fails(&["snapshot", "fork", "--state", "standby", "disks", "new"], &["disks only", "--state"]);
    bed.fails(&["snapshot", "fork", "nothing", "new"], &["nothing", "hypeman snapshot ls"]);
    bed.fails(&["snapshot", "rm", "nothing"], &["nothing"]);
    bed.ok(&["start", name]);
    bed.fails(&["snapshot", "create", "--kind", "stopped", name], &[name, "hypeman stop"]);
    bed.ok(&["snapshot", "create", "--name", "memory", name]);
    bed.fails(
        &["snapshot", "fork", "--hypervisor", "qemu-microvm", "memory", "new"],
        &["memory", "--hypervisor", "Stopped"],
    );
    // Disks alone may go elsewhere.
    bed.ok(&["snapshot", "fork", "--hypervisor", "qemu-microvm", "--state", "running", "disks", "new"]);
    let new = Instance::named(&bed, "new");
    assert_eq!(bed.inspect("new")["hypervisor"], "qemu-microvm");
    new.prints();
    bed.ok(&["kill", "new", name]);
    assert_eq!(boots(&whole(&new.log())).len(), 1);
    let inspected: serde_json::Value =
        serde_json::from_str(&bed.ok(&["snapshot", "inspect", "disks", "memory"])).expect("JSON");
    assert_eq!((&inspected[0]["kind"], &inspected[1]["kind"]), (&"Stopped".into(), &"Standby".into()));
    drop(vm);
}

/// A command that is killed while the VM sleeps for it. The next one that looks wakes the VM.
fn a_vm_goes_on_whose_snapshot_was_broken_off() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let guest = Guest::new(&bed, "naps").slow();
    let options = guest.options();
    let vm = guest.run();
    let memory = vm.directory().join("snapshot");
    for state in ["Running", "Paused"] {
        vm.prints();
        if state == "Paused" {
            bed.ok(&["pause", "naps"]);
        }
        eventually("it was killed in the middle", || {
            let mut command = bed.command(&["snapshot", "create", "naps"]);
            let mut command = command.stdout(Stdio::null()).spawn().expect("hypeman");
            while !memory.exists() && command.try_wait().expect("a child").is_none() {
                std::thread::yield_now();
            }
            command.kill().and_then(|()| command.wait()).expect("kill -9");
            memory.exists().then_some(())
        });
        // Not that of a VM whose memory is still being written.
        until("it goes on as it was", || vm.state() == state && !memory.exists());
    }
    bed.ok(&["resume", "naps"]);
    vm.prints();
    // One that is to sleep does so.
    bed.ok(&["standby", "naps"]);
    assert_eq!(vm.state(), "Standby");
    bed.ok(&["restore", "naps"]);
    vm.prints();
    bed.ok(&["kill", "naps"]);
    assert_whole(&vm.log(), &options);
}

fn an_instance_is_put_back_to_what_it_was() {
    let name = "put-back";
    let script = "echo file $(cat /file); echo $1 > /file; sync; echo written; sleep 1000";
    let arguments = ["--memory", "128m", busybox(), "sh", "-c", script, "sh", "one"];
    let vm = Instance::run(bed(), name, &arguments);
    let _ = vm.read_until("written");
    bed().ok(&["stop", "-t", "1", name]);
    bed().ok(&["snapshot", "create", "--name", "one", name]);
    let overlay = vm.directory().join("disks/overlay");
    let before = overlay.metadata().expect("the disk").modified().expect("a time");
    bed().ok(&["start", name]);
    let _ = vm.read_until("file one");
    bed().ok(&["stop", "-t", "1", name]);
    assert_ne!(overlay.metadata().expect("the disk").modified().expect("a time"), before);
    bed().fails(&["image", "rm", "hypeman-test/none"], &["none"]);
    bed().ok(&["snapshot", "restore", name, "one"]);
    assert_eq!(bed().inspect(name)["state"], "Stopped");
    assert_eq!(overlay.metadata().expect("the disk").modified().expect("a time"), before);
    bed().ok(&["start", name]);
    until("it has booted a third time", || {
        String::from_utf8_lossy(&whole(&vm.log())).matches("file ").count() == 3
    });
    bed().ok(&["snapshot", "rm", "one"]);
}
