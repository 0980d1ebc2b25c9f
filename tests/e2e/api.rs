//! The HTTP API, driven by upstream's own clients and beside the command line.

use std::process::Command;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{bed, busybox, busybox_tar, testguest};
use hypeman_tests::needs::{BUSYBOX, CURL, HTPASSWD, NPM_CLIENT, PYTHON_CLIENT, QEMU, REGISTRY, SKOPEO};
use hypeman_tests::registry::{PASSWORD, Registry, USER};
use hypeman_tests::server::{Server, drivers, sdks};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use rustix::process::Signal;
use serde_json::json;

use crate::promises;

promises! {
    [QEMU, BUSYBOX, REGISTRY, SKOPEO, HTPASSWD, PYTHON_CLIENT] upstream_s_python_client_works_unchanged;
    [QEMU, BUSYBOX, REGISTRY, SKOPEO, HTPASSWD, NPM_CLIENT] upstream_s_npm_client_works_unchanged;
    [QEMU, PYTHON_CLIENT] any_request_is_answered_as_the_specification_says;
    [QEMU, BUSYBOX, CURL, PYTHON_CLIENT, NPM_CLIENT] the_examples_of_the_api_run;
    [QEMU, BUSYBOX, CURL] the_command_line_and_a_server_see_what_the_other_does;
}

/// Runs a client against a server, with an image in a registry that wants a password.
fn drive(image: &str, client: &mut Command) {
    let _ = busybox(); // a kernel too
    let scratch = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(scratch.path());
    registry.push(&busybox_tar(), image, &["/bin/sh"]);
    client.env("IMAGE", format!("{}/{image}", registry.address));
    client.env("REGISTRY_USER", USER).env("REGISTRY_PASSWORD", PASSWORD);
    let server = Server::start(bed());
    server.serves(client);
    // Lent credentials are nowhere.
    let pulls = std::fs::read_dir(bed().data_dir.join("pulls")).into_iter().flatten().flatten();
    for record in pulls {
        let text = std::fs::read_to_string(record.path()).unwrap_or_default();
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

fn upstream_s_python_client_works_unchanged() {
    let mut pytest = Command::new(sdks().join("python/bin/python"));
    pytest
        .args(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"])
        .arg(drivers().join("python/drive.py"));
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    drive("py-app:1", &mut pytest);
}

fn upstream_s_npm_client_works_unchanged() {
    // A module finds others from where it lies.
    let program = sdks().join("js/drive.mjs");
    std::fs::copy(drivers().join("js/drive.mjs"), &program).expect("copy");
    drive("js-app:1", Command::new("node").arg(program));
}

/// With `HYPEMAN_TEST_API_EXAMPLES` more requests of each kind are made, as by `make api-fuzz`.
fn any_request_is_answered_as_the_specification_says() {
    let examples = std::env::var("HYPEMAN_TEST_API_EXAMPLES").unwrap_or_else(|_| "5".to_owned());
    let data_dir = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(data_dir.path());
    // One that ends by itself, so that nobody waits for it.
    let guest = ["--memory", "32m", "--kernel", testguest(), "--cmdline", "count=20 pause=200000"];
    bed.ok(&[&["create", "--name", "fuzz"], &guest[..]].concat());
    let _removed = RemovedOnDrop(&bed);
    let snapshot = bed.ok(&["snapshot", "create", "fuzz"]);
    let server = Server::start(&bed);
    let mut schemathesis = Command::new(sdks().join("python/bin/schemathesis"));
    schemathesis.arg("--config-file").arg(drivers().join("schemathesis.toml"));
    schemathesis.args(["run", "--no-color", "--max-examples", &examples]);
    schemathesis.arg(format!("{}/spec.json", server.url)).env("SNAPSHOT", snapshot);
    // It leaves files where it runs.
    schemathesis.current_dir(data_dir.path());
    server.serves(&mut schemathesis);
}

/// A bed whose instances are removed, however its test ends.
struct RemovedOnDrop<'a>(&'a Bed);

impl Drop for RemovedOnDrop<'_> {
    fn drop(&mut self) {
        for id in self.0.run(&["ps", "-aq"]).stdout.lines() {
            let _ = self.0.run(&["rm", "-f", id]); // the test may have failed for that
        }
    }
}

fn the_examples_of_the_api_run() {
    let examples = drivers().join("../../examples/api");
    let server = Server::start(bed());
    server.serves(Command::new(examples.join("curl.sh")).env("IMAGE", busybox()));
    let mut python = Command::new(sdks().join("python/bin/python"));
    let scratch = tempfile::tempdir().expect("a directory");
    server
        .serves(python.arg(examples.join("python.py")).env("IMAGE", busybox()).env("TMPDIR", scratch.path()));
    let program = sdks().join("js/javascript.mjs");
    std::fs::copy(examples.join("javascript.mjs"), &program).expect("copy");
    server.serves(Command::new("node").arg(program).env("IMAGE", busybox()));
    let left = bed().ok(&["ps", "-a", "--format", "{{.Name}}"]);
    for name in ["clock", "worker", "worker-2", "counter"] {
        assert!(!left.lines().any(|line| line == name), "{left}");
    }
}

/// A program that says when it ends as it is asked to.
const READY: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 1; done"];

fn the_command_line_and_a_server_see_what_the_other_does() {
    let bed = bed();
    let mut server = Server::start(bed);
    let named = Instance::named(bed, "api-both");
    let request = json!({
        "name": named.name, "image": busybox(), "size": "256MB", "overlay_size": "1GB", "cmd": READY,
        "tags": {"api-both": "a"}, "network": {"enabled": false},
    });
    let (status, made) = server.ask("POST", "/instances", Some(&request));
    assert_eq!(status, 201, "{made}");
    assert_eq!(bed.ok(&["ps", "-q", "--filter", "label=api-both=a"]), made["id"].as_str().expect("an id"));
    assert_eq!(bed.ok(&["ps", "-aq", "--filter", "label=api-both=b"]), "");
    // It owns nothing: its VMs do not notice that it is killed.
    assert_eq!(server.end(Signal::KILL), None);
    until("it runs", || named.state() == "Running");
    let mut server = Server::start(bed);
    let (status, seen) = server.ask("GET", "/instances/api-both", None);
    assert_eq!((status, &seen["state"]), (200, &json!("Running")));
    until("its program takes signals", || bed.ok(&["logs", &named.name]).contains("ready"));
    bed.ok(&["stop", "-t", "20", &named.name]);
    let (_, stopped) = server.ask("GET", "/instances/api-both", None);
    assert_eq!((&stopped["state"], &stopped["exit_code"]), (&json!("Stopped"), &json!(0)));
    assert_eq!(server.ask("POST", "/instances/api-both/start", Some(&json!({}))).0, 200);
    until("it runs", || named.state() == "Running");
    // One that is asked to end does so, and leaves its VMs.
    assert_eq!(server.end(Signal::TERM), Some(0));
    assert_eq!(named.state(), "Running");
    let server = Server::start(bed);
    assert_eq!(server.ask("DELETE", "/instances/api-both?graceful_shutdown=false", None).0, 204);
    assert_eq!(bed.ok(&["ps", "-aq", "--filter", "label=api-both=a"]), "");
    assert_eq!(server.ask("GET", "/instances/api-both", None).0, 404);
}
