use std::path::PathBuf;

use super::*;
use crate::launch::Launch;
use crate::named::NamedSnapshot;
use crate::record::Record;
use crate::run::Run;

/// Records that hypeman wrote before records had a format: `testdata/README.md`.
fn old(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/before-formats").join(name)
}

#[test]
fn records_of_before_there_were_formats_are_read() {
    for instance in ["created", "ended", "running"] {
        let record: Record = read(&old(&format!("{instance}/instance.json"))).unwrap().expect("a record");
        assert_eq!((record.name.as_str(), record.envelope.format), (&*format!("old-{instance}"), FIRST));
        assert_eq!(record.envelope.release, None);
        assert!(record.envelope.unknown.is_empty(), "{:?}", record.envelope.unknown);
    }
    for instance in ["ended", "running"] {
        let launch: Launch = read(&old(&format!("{instance}/launch.json"))).unwrap().expect("an order");
        // An order is written anew at each start; what the user named stands in the record.
        assert!(launch.envelope.unknown.keys().all(|key| key == "program"), "{:?}", launch.envelope.unknown);
        let run: Run = read(&old(&format!("{instance}/run.json"))).unwrap().expect("a run");
        assert_eq!(run.end.is_some(), instance == "ended");
        assert!(run.envelope.unknown.is_empty(), "{:?}", run.envelope.unknown);
    }
}

/// Records that the release of commit 553522b wrote: `testdata/README.md`.
#[test]
fn records_of_553522b_are_read_and_nothing_of_them_is_unknown() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/553522b");
    fn whole<T: Versioned + serde::Serialize>(path: &Path) -> T {
        let record: T = read(path).unwrap().expect("a record");
        assert!(record.envelope().unknown.is_empty(), "{}", path.display());
        assert_eq!(unknown::<T>(path).unwrap(), Unknown::default(), "{}", path.display());
        record
    }
    for instance in ["created", "ended", "standby", "running"] {
        let record: Record = whole(&data.join(instance).join("instance.json"));
        assert_eq!(record.name, instance);
    }
    for (instance, has_ended) in [("ended", true), ("standby", true), ("running", false)] {
        let launch: Launch = whole(&data.join(instance).join("launch.json"));
        assert_eq!(launch.spec.name, instance);
        assert_eq!(whole::<Run>(&data.join(instance).join("run.json")).end.is_some(), has_ended);
    }
    assert_eq!(whole::<NamedSnapshot>(&data.join("snapshot/named.json")).source.name, "standby");
}

#[test]
fn what_a_newer_release_has_added_survives_being_written_again() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run.json");
    let mut value: Value = hypeman_files::read_json(&old("ended/run.json")).unwrap().expect("a run");
    value["from_the_future"] = serde_json::json!({"a": [1, 2]});
    hypeman_files::write_json(&path, &value).unwrap();
    let run: Run = read(&path).unwrap().expect("a run");
    write(&path, &run).unwrap();
    let again: Value = hypeman_files::read_json(&path).unwrap().expect("a run");
    assert_eq!(again["from_the_future"], value["from_the_future"]);
    assert_eq!(again["end"], value["end"]);
}

#[test]
fn what_a_newer_release_has_added_to_a_part_survives_too() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("instance.json");
    let mut value: Value =
        hypeman_files::read_json(&old("created/instance.json")).unwrap().expect("a record");
    value["network"] = serde_json::json!({
        "connection": "none", "future": {"a": [1]}, "published": [{"protocol": "tcp", "guest": 80, "future": true}],
    });
    value["log"]["future"] = "kept".into();
    hypeman_files::write_json(&path, &value).unwrap();
    let record: Record = read(&path).unwrap().expect("a record");
    rewrite(&path, &Record { name: "other".to_owned(), ..record.clone() }).unwrap();
    let again: Value = hypeman_files::read_json(&path).unwrap().expect("a record");
    assert_eq!(again["name"], "other");
    assert_eq!(again["network"]["future"], value["network"]["future"]);
    assert_eq!(again["network"]["published"][0]["future"], true);
    assert_eq!(again["log"]["future"], "kept");
    // A part of a record of another kind, and a part that is gone.
    let unknown = unknown::<Record>(&path).unwrap();
    let of_part = unknown.clone().as_part("source").of_part("source");
    assert_eq!(of_part, unknown);
    let bare = Record {
        settings: crate::record::Settings { network: Default::default(), ..record.settings.clone() },
        ..record
    };
    write_with(&path, &bare, &[unknown]).unwrap();
    let again: Value = hypeman_files::read_json(&path).unwrap().expect("a record");
    assert_eq!(again["network"]["published"], Value::Null, "a port that is gone does not come back");
    assert_eq!(again["network"]["future"], value["network"]["future"]);
}

#[test]
fn a_record_of_a_higher_format_is_refused_by_its_release_and_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run.json");
    let text = format!(r#"{{"format": {}, "release": "9.8.7", "what": "ever"}}"#, Run::FORMAT + 1);
    std::fs::write(&path, &text).unwrap();
    let error = read::<Run>(&path).unwrap_err().to_string();
    assert!(error.contains("9.8.7") && error.contains(RELEASE) && error.contains("run.json"), "{error}");
    assert!(!error.contains("remove"), "nobody is told to throw it away: {error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_new_record_names_its_format_and_release() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run.json");
    let mut run: Run = read(&old("ended/run.json")).unwrap().expect("a run");
    run.envelope = Envelope::of::<Run>();
    write(&path, &run).unwrap();
    let value: Value = hypeman_files::read_json(&path).unwrap().expect("a run");
    assert_eq!((&value["format"], &value["release"]), (&Run::FORMAT.into(), &RELEASE.into()));
}
