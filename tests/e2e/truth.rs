//! States are told from the truth.

use std::path::Path;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{bed, testguest};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::QEMU;
use hypeman_tests::vm::Instance;
use testguest::Finish;

use crate::promises;

promises! {
    [QEMU]
        a_vmm_killed_from_outside,
        instances_of_before_records_had_formats_are_managed,
        a_guest_that_resets_itself;
    [] a_record_of_a_newer_release_is_left_alone;
}

fn endless(name: &str) -> Instance<'static> {
    Guest::new(bed(), name).run()
}

fn a_vmm_killed_from_outside() {
    let vm = endless("vmm-killed");
    vm.kill("vmm");
    assert_eq!(vm.wait(), 137);
    let inspected = bed().inspect("vmm-killed");
    assert_eq!(inspected["state"], "Stopped");
    assert!(inspected["end"]["message"].as_str().expect("a message").contains("signal 9"), "{inspected}");
}

fn a_guest_that_resets_itself() {
    let vm = Guest::new(bed(), "resets").lines(10).finish(Finish::Reset).run();
    assert_eq!(vm.wait(), 125);
    assert_eq!(bed().inspect("resets")["end"]["reason"], "guest-reset");
}

fn instances_of_before_records_had_formats_are_managed() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/record/testdata/before-formats");
    for instance in ["created", "ended"] {
        let text = std::fs::read_to_string(old.join(instance).join("instance.json")).expect("a record");
        let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let directory = bed.data_dir.join("instances").join(record["id"].as_str().expect("an id"));
        for name in ["disks", "logs"] {
            std::fs::create_dir_all(directory.join(name)).expect("a directory");
        }
        std::fs::copy(testguest(), directory.join("kernel")).expect("copy the kernel");
        for file in std::fs::read_dir(old.join(instance)).expect("its files").flatten() {
            std::fs::copy(file.path(), directory.join(file.file_name())).expect("copy");
        }
    }
    assert_eq!(bed.inspect("old-created")["state"], "Created");
    let ended = bed.inspect("old-ended");
    assert_eq!((&ended["state"], &ended["end"]["exit_code"]), (&"Stopped".into(), &0.into()));
    for name in ["old-created", "old-ended"] {
        let vm = Instance::named(&bed, name);
        bed.ok(&["start", name]);
        assert_eq!(vm.wait(), 0);
        assert_eq!(bed.ok(&["logs", name]).lines().count(), 3);
        assert_eq!(bed.inspect(name)["run"]["format"], 1);
    }
    assert_eq!(bed.ok(&["ps", "-aq"]), "");
}

fn a_record_of_a_newer_release_is_left_alone() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    for name in ["newer", "ours"] {
        bed.ok(&["create", "--name", name, "--kernel", testguest()]);
    }
    let directory = std::path::PathBuf::from(bed.inspect("newer")["directory"].as_str().expect("a path"));
    let path = directory.join("instance.json");
    let mut record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("a record")).expect("JSON");
    record["format"] = 99.into();
    record["release"] = "9.8.7".into();
    std::fs::write(&path, record.to_string()).expect("write");
    for command in [&["start", "newer"][..], &["rm", "-f", "newer"], &["ps", "-a"]] {
        bed.fails(command, &["9.8.7", "instance.json"]);
    }
    assert!(bed.run(&["ps", "-a"]).stdout.contains("ours"), "the others are listed");
    assert_eq!(std::fs::read_to_string(&path).expect("a record"), record.to_string());
}
