//! Named snapshots: what they keep outlives the instance, and can be had again, in place or as another.

use std::path::PathBuf;

use hypeman_tests::bed::Bed;
use hypeman_tests::ch::programs;
use hypeman_tests::console::{assert_no_hole, boots, whole};
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use testguest::check::Sequence;

use crate::promises;

promises! {
    [QEMU]
        a_snapshot_outlives_its_instance,
        what_a_snapshot_cannot_be_is_told;
    [Need::CloudHypervisor] a_snapshot_on_cloud_hypervisor_outlives_its_instance;
    [QEMU, BUSYBOX] an_instance_is_put_back_to_what_it_was;
}

fn log(bed: &Bed, name: &str) -> PathBuf {
    let id = bed.inspect(name)["id"].as_str().expect("an id").to_owned();
    bed.data_dir.join("instances").join(id).join("logs/app.log")
}

fn prints(bed: &Bed, name: &str) {
    let log = log(bed, name);
    let before = whole(&log).len();
    until("the log grows", || whole(&log).len() > before + 1000);
}

fn outlive(name: &str, arguments: &[&str]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let guest = Guest::new(&bed, name).with(arguments);
    let options = guest.options();
    let source = guest.run();
    prints(&bed, name);
    let id = bed.ok(&["snapshot", "create", "--name", "before", name]);
    assert_eq!(bed.inspect(name)["state"], "Running", "it goes on");
    prints(&bed, name);
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
    prints(&bed, name);
    bed.ok(&["kill", name]);
    assert_no_hole(&log(&bed, name));
    drop(source);
    // The instance is gone, and its snapshot is not.
    for new in ["one", "two"] {
        bed.ok(&["snapshot", "fork", &id[..6], new]);
        let _new = Instance { bed: &bed, name: new.to_owned() };
        prints(&bed, new);
        bed.ok(&["kill", new]);
        let whole = whole(&log(&bed, new));
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
    for program in programs() {
        outlive("kept-ch", &["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", program]);
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
    bed.fails(&["snapshot", "fork", "--state", "standby", "disks", "new"], &["only disks", "--state"]);
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
    let _new = Instance { bed: &bed, name: "new".to_owned() };
    assert_eq!(bed.inspect("new")["hypervisor"], "qemu-microvm");
    prints(&bed, "new");
    bed.ok(&["kill", "new", name]);
    assert_eq!(boots(&whole(&log(&bed, "new"))).len(), 1);
    let inspected: serde_json::Value =
        serde_json::from_str(&bed.ok(&["snapshot", "inspect", "disks", "memory"])).expect("JSON");
    assert_eq!((&inspected[0]["kind"], &inspected[1]["kind"]), (&"Stopped".into(), &"Standby".into()));
    drop(vm);
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
        String::from_utf8_lossy(&whole(&vm.directory().join("logs/app.log"))).matches("file ").count() == 3
    });
    bed().ok(&["snapshot", "rm", "one"]);
}
