//! Many instances, and many users at once.

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::testguest;

use crate::promises;

promises! {
    []
        two_hundred_instances,
        twenty_creations_at_once;
}

fn create(name: &str) -> [&str; 5] {
    ["create", "--name", name, "--kernel", testguest()]
}

fn two_hundred_instances() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let names: Vec<String> = (0..200).map(|n| format!("vm-{n}")).collect();
    for name in &names {
        bed.ok(&create(name));
    }
    bed.fails(&create("vm-77"), &["vm-77", "taken"]);
    let listed = bed.ok(&["ps", "-a", "--format", "json"]);
    let listed: Vec<serde_json::Value> =
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(listed.iter().map(|row| row["name"].as_str().expect("a name")).collect::<Vec<_>>(), names);
    assert!(listed.iter().all(|row| row["state"] == "Created"));
    assert_eq!(bed.ok(&["ps", "-q"]), "", "none of them runs");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.ok(&[&["rm"], &names[..]].concat());
    assert_eq!(bed.instance_directories(), Vec::<String>::new());
}

fn twenty_creations_at_once() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    // Ten names, each wanted by two.
    let names: Vec<String> = (0..20).map(|n| format!("vm-{}", n / 2)).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            bed.command(&create(name))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::piped())
                .spawn()
        })
        .collect();
    let outcomes: Vec<_> = children
        .into_iter()
        .map(|child| child.expect("hypeman create").wait_with_output().expect("its end"))
        .collect();
    for pair in outcomes.chunks(2) {
        let successes = pair.iter().filter(|output| output.status.success()).count();
        assert_eq!(successes, 1, "of two that want a name one gets it: {pair:?}");
    }
    assert_eq!(bed.instance_directories().len(), 10);
    assert_eq!(bed.ok(&["ps", "-aq"]).lines().count(), 10);
}
