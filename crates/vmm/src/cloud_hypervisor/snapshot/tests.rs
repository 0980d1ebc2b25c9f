use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn restore(text: &str) -> String {
    restored(text.as_bytes(), "serial.sock")
        .unwrap()
        .map_or(text.to_owned(), |text| String::from_utf8(text).unwrap())
}

fn fork(text: &str) -> String {
    let net = |n: u8| Net {
        tap: Some(format!("tap{n}")),
        mac: Some(format!("02:00:00:00:00:0{n}")),
        ..Net::default()
    };
    let config: Value = serde_json::from_str(text).unwrap();
    let fork = Fork {
        moves: vec![("/a/vm1".into(), "/b/vm2".into())],
        vsock: Some("vsock.sock".into()),
        nets: if config.get("net").is_some() { vec![net(7)] } else { vec![] },
    };
    forked(text.as_bytes(), "serial.sock", &fork)
        .unwrap()
        .map_or(text.to_owned(), |text| String::from_utf8(text).unwrap())
}

#[test]
fn a_file_becomes_a_socket_and_the_rest_stays_to_the_last_digit() {
    let text = r#"{"z":1.50, "big":123456789012345678901234567890,"serial":{"mode":"File","file":"/x/app.log","iommu":false},"a":[null,true]}"#;
    let expected = r#"{"z":1.50,"big":123456789012345678901234567890,"serial":{"mode":"Socket","iommu":false,"socket":"serial.sock"},"a":[null,true]}"#;
    assert_eq!(restore(text), expected);
    for mode in ["Off", "Null", "Tty", "Pty", "New in v99"] {
        let text = format!(r#"{{"serial":{{"mode":"{mode}","file":null}}}}"#);
        assert_eq!(restore(&text), r#"{"serial":{"mode":"Socket","socket":"serial.sock"}}"#);
    }
}

#[test]
fn what_is_right_already_is_left_byte_for_byte() {
    for text in [
        "{ \"serial\": {\"socket\":\"serial.sock\",\n\"mode\":\"Socket\"} }",
        "{\"cpus\" :{}}",
        "{\"serial\":null }",
    ] {
        assert_eq!(restored(text.as_bytes(), "serial.sock"), Ok(None));
    }
}

#[test]
fn paths_are_moved_by_component() {
    let moved = |text: &str| moved(text, "/a/vm1".as_ref(), "/b/vm2".as_ref());
    assert_eq!(moved("/a/vm1").as_deref(), Some("/b/vm2"));
    assert_eq!(moved("/a/vm1/disks/x").as_deref(), Some("/b/vm2/disks/x"));
    for other in ["/a/vm10", "/a/vm10/x", "/a", "a/vm1/x", "console=/a/vm1", "/a/vm1/../vm3/x", ""] {
        assert_eq!(moved(other), None, "{other}");
    }
}

#[test]
fn a_fork_has_its_own_paths_vsock_and_nets() {
    let text = json!({
        "payload": {"kernel": "/a/vm1/kernel", "cmdline": "root=/a/vm1"},
        "disks": [{"path": "/a/vm1/disks/overlay", "id": "_disk0"}, {"path": "/a/vm10/disk"}],
        "net": [{"tap": "tap1", "mac": "02:00:00:00:00:01", "ip": "10.0.0.1"}, {"tap": "tap2"}],
        "vsock": {"cid": 3, "socket": "/a/vm1/vsock.sock"},
        "serial": {"mode": "File", "file": "/a/vm1/logs/app.log"},
    });
    let expected = json!({
        "payload": {"kernel": "/b/vm2/kernel", "cmdline": "root=/a/vm1"},
        "disks": [{"path": "/b/vm2/disks/overlay", "id": "_disk0"}, {"path": "/a/vm10/disk"}],
        "net": [{"tap": "tap7", "mac": "02:00:00:00:00:07", "ip": "10.0.0.1"}, {"tap": "tap2"}],
        "vsock": {"cid": 3, "socket": "vsock.sock"},
        "serial": {"mode": "Socket", "socket": "serial.sock"},
    });
    assert_eq!(serde_json::from_str::<Value>(&fork(&text.to_string())).unwrap(), expected);
}

#[test]
fn hostile_files_are_errors_that_name_file_and_place_and_stay_as_they_were() {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let very_deep = "[".repeat(1 << 20);
    let huge = format!("{{\"x\":\"{}\"}}", "x".repeat(4 << 20));
    let cases: [(&[u8], &str); 11] = [
        (b"", "line 1"),
        (b"{\"serial\":{\"mode\":\"Fi", "line 1"),
        (b"{\n\"serial\": nonsense}", "line 2"),
        (b"[]", "no JSON object"),
        (b"{\"serial\":[]}", "/serial"),
        (b"{\"serial\":{},\"serial\":{}}", "/serial"),
        (b"{\"serial\":{\"mode\":\"a\",\"mode\":\"b\"}}", "/serial/mode"),
        (b"{\"x\":\"\xff\"}", "line 1"),
        (deep.as_bytes(), "/x/0/0"),
        (very_deep.as_bytes(), "line 1"),
        (huge.as_bytes(), "larger"),
    ];
    for (text, place) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let error = prepare_restore(&path, "serial.sock").unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(place), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), text);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    let error =
        forked(b"{\"net\":[1]}", "s", &Fork { nets: vec![Net::default()], ..Fork::default() }).unwrap_err();
    assert!(error.to_string().contains("/net/0"), "{error}");
}

/// Any JSON object, with the fields that matter now and then.
fn configs() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/]{0,8}".prop_map(Value::from),
        prop_oneof!["/a/vm1", "/a/vm1/[a-z]{1,4}", "/a/vm10", "File", "Socket", "serial.sock"]
            .prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::from), object_of(inner)]
    });
    (object_of(value.clone()), proptest::option::of(object_of(value))).prop_map(|(mut config, serial)| {
        for special in ["serial", "net", "vsock"] {
            config.as_object_mut().unwrap().remove(special);
        }
        if let Some(serial) = serial {
            config["serial"] = serial;
        }
        config
    })
}

fn object_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let names = prop_oneof!["[a-z]{1,6}", "mode", "socket", "file"];
    vec((names, value), 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

proptest! {
    #[test]
    fn once_is_enough(config in configs()) {
        let text = config.to_string();
        prop_assert_eq!(restore(&restore(&text)), restore(&text));
        prop_assert_eq!(fork(&fork(&text)), fork(&text));
    }

    #[test]
    fn a_restore_changes_nothing_but_the_serial_line(config in configs()) {
        let mut changed: Value = serde_json::from_str(&restore(&config.to_string())).unwrap();
        if let Some(serial) = changed.get_mut("serial") {
            prop_assert_eq!(&serial["mode"], "Socket");
            prop_assert_eq!(&serial["socket"], "serial.sock");
            *serial = config["serial"].clone();
        }
        prop_assert_eq!(changed, config);
    }

    #[test]
    fn a_fork_back_and_forth_is_a_restore(config in configs()) {
        let there = Fork { moves: vec![("/a/vm1".into(), "/unused".into())], ..Fork::default() };
        let back = Fork { moves: vec![("/unused".into(), "/a/vm1".into())], ..Fork::default() };
        let text = config.to_string().into_bytes();
        let once = forked(&text, "serial.sock", &there).unwrap().unwrap_or(text);
        let twice = forked(&once, "serial.sock", &back).unwrap().unwrap_or(once);
        let twice: Value = serde_json::from_slice(&twice).unwrap();
        prop_assert_eq!(twice, serde_json::from_str::<Value>(&restore(&config.to_string())).unwrap());
    }
}
