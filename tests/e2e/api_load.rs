//! Clients of the API and of the command line on the same instances at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::console::assert_counted;
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::needs::{BUSYBOX, CURL, QEMU};
use hypeman_tests::server::{Client, Server};
use hypeman_tests::vm::{COUNTING, Instance};
use hypeman_tests::wait::until;
use serde_json::{Value, json};

use crate::promises;

promises! {
    [QEMU, BUSYBOX, CURL] sixteen_clients_of_the_api_and_the_command_line_agree;
}

/// Names the seconds for which they go on, as `make api-load` does.
const SECONDS: &str = "HYPEMAN_TEST_API_LOAD_SECONDS";

/// Seconds in each run of the tests.
const USUAL_SECONDS: u64 = 12;

/// Clients of each kind.
const CLIENTS: usize = 8;

/// Instances that all of them use.
const INSTANCES: usize = 5;

/// Kinds of errors that come of two who want different things of an instance, or of one that is not
/// there now.
const EXPECTED: [&str; 7] = ["not-found", "taken", "wrong-state", "in-use", "guest", "broken", "cancelled"];

fn name(number: usize) -> String {
    format!("load-{number}")
}

fn sixteen_clients_of_the_api_and_the_command_line_agree() {
    let bed = bed();
    let image = busybox();
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(USUAL_SECONDS);
    let until = Instant::now() + Duration::from_secs(seconds);
    let server = Server::start(bed);
    let (done, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for number in 0..CLIENTS {
            let (done, refused, url) = (&done, &refused, &server.url);
            let count = move |is_done| {
                let counter = if is_done { done } else { refused };
                counter.fetch_add(1, Ordering::Relaxed);
            };
            threads.spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                let client = Client::new(bed);
                while Instant::now() < until {
                    count(call(&client, url, image, &mut random));
                }
            });
            threads.spawn(move || {
                let mut random = fastrand::Rng::with_seed(1000 + number as u64);
                while Instant::now() < until {
                    count(command(bed, image, &mut random));
                }
            });
        }
    });
    let (done, refused) = (done.into_inner(), refused.into_inner());
    println!("{done} were done and {refused} refused in {seconds} s");
    assert!(done > refused / 4 && done > 2 * CLIENTS, "{done} done, {refused} refused");
    check(bed, &server);
}

/// Asks the API for something; whether it was done. Nothing is ever a fault of the server's.
fn call(client: &Client, url: &str, image: &str, random: &mut fastrand::Rng) -> bool {
    let name = name(random.usize(0..INSTANCES));
    let path = |rest: &str| format!("/instances/{name}{rest}");
    let (method, path, body) = match random.u32(0..14) {
        0..3 => (
            "POST",
            "/instances".to_owned(),
            json!({
                "name": name, "image": image, "size": "128MB", "overlay_size": "64MB", "vcpus": 1,
                "cmd": COUNTING, "network": {"enabled": false},
            }),
        ),
        3 => ("POST", path("/standby"), Value::Null),
        4..6 => ("POST", path("/restore"), Value::Null),
        6 => ("POST", path("/stop"), Value::Null),
        7..9 => ("POST", path("/start"), json!({})),
        9 => ("DELETE", path("?graceful_shutdown=false"), Value::Null),
        10 => ("GET", path("/stat?path=/bin/sh"), Value::Null),
        11 => ("GET", path("/logs?tail=5"), Value::Null),
        12 => ("GET", path("/wait?state=Running&timeout=1s"), Value::Null),
        _ => ("GET", "/instances".to_owned(), Value::Null),
    };
    let body = Some(body).filter(|body| !body.is_null());
    let (status, answer) = client.ask(url, method, &path, body.as_ref()).expect("the server lives");
    assert!(status < 500, "{method} {path}: {status} {answer}");
    status < 400
}

/// Asks the command line for something; whether it was done.
fn command(bed: &Bed, image: &str, random: &mut fastrand::Rng) -> bool {
    let name = name(random.usize(0..INSTANCES));
    let options = ["--name", &name, "--memory", "128m", "--disk-size", "64m", "--network", "none", image];
    let create = [&["run", "-d"], &options[..], &COUNTING].concat();
    let arguments: &[&str] = match random.u32(0..14) {
        0..3 => &create,
        3 => &["standby", &name],
        4..6 => &["restore", &name],
        6 => &["stop", "-t", "5", &name],
        7..9 => &["start", &name],
        9 => &["rm", "-f", &name],
        10 => &["exec", &name, "true"],
        11 => &["logs", "--tail", "5", &name],
        12 => &["inspect", &name],
        _ => &["ps", "-a"],
    };
    let output = bed.command(arguments).env("HYPEMAN_ERROR_FORMAT", "json").output().expect("hypeman");
    // As docker's: the VM ended under the command.
    let has_ended = arguments[0] == "exec" && output.status.code() == Some(137);
    if !output.status.success() && !has_ended {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = told
            .lines()
            .find_map(|line| serde_json::from_str::<Value>(line).ok()?["code"].as_str().map(str::to_owned));
        let code = code.unwrap_or_else(|| panic!("{arguments:?}: {told}"));
        assert!(EXPECTED.contains(&code.as_str()), "{arguments:?}: {told}");
    }
    output.status.success()
}

/// Both see the same, and each console is whole.
fn check(bed: &Bed, server: &Server<'_>) {
    let rests = ["Created", "Stopped", "Standby", "Running"];
    for number in 0..INSTANCES {
        let name = name(number);
        let vm = Instance::named(bed, &name);
        if bed.run(&["inspect", &name]).code != 0 {
            assert_eq!(server.ask("GET", &format!("/instances/{name}"), None).0, 404);
            continue;
        }
        until("nothing is under way", || rests.contains(&&*vm.state()));
        let (status, seen) = server.ask("GET", &format!("/instances/{name}"), None);
        assert_eq!((status, &seen["state"]), (200, &json!(vm.state())), "{seen}");
        match &*vm.state() {
            "Standby" => drop(bed.ok(&["restore", &name])),
            "Running" => {}
            _ => drop(bed.ok(&["start", &name])),
        }
        bed.ok(&["wait", "--for", "running", "--timeout", "60", &name]);
        assert_eq!(bed.shell(&name, "echo here"), "here");
        bed.ok(&["stop", "-t", "20", &name]);
        assert_counted(&vm.log());
        bed.ok(&["rm", &name]);
    }
}
