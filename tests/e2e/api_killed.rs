//! A server that is killed again and again while clients ask for this and that.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::console::assert_counted;
use hypeman_tests::fixtures::{bed, busybox};
use hypeman_tests::needs::{BUSYBOX, CURL, QEMU};
use hypeman_tests::server::{Client, Server};
use hypeman_tests::vm::{COUNTING, Instance};
use hypeman_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::promises;

promises! {
    [QEMU, BUSYBOX, CURL] a_server_killed_at_any_moment_leaves_whole_instances;
}

/// Kills of the server.
const KILLS: usize = 100;

/// Clients, each with instances of its own.
const CLIENTS: usize = 3;

fn a_server_killed_at_any_moment_leaves_whole_instances() {
    let bed = bed();
    let image = busybox();
    let address = Mutex::new(String::new());
    let is_over = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for number in 0..CLIENTS {
            let (address, is_over, answers) = (&address, &is_over, &answers);
            threads.spawn(move || {
                let mut client = Load::new(bed, number, image);
                while !is_over.load(Ordering::Relaxed) {
                    let url = address.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if client.step(&url) {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(32);
        for _ in 0..KILLS {
            let mut server = Server::start(bed);
            *address.lock().unwrap_or_else(PoisonError::into_inner) = server.url.clone();
            std::thread::sleep(Duration::from_millis(random.u64(50..700)));
            server.end(Signal::KILL);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(answers.into_inner() > KILLS, "the clients were hardly served");
    check(bed);
}

/// What one client does, again and again.
struct Load<'a> {
    client: Client,
    random: fastrand::Rng,
    name: String,
    image: &'a str,
}

impl<'a> Load<'a> {
    fn new(bed: &Bed, number: usize, image: &'a str) -> Load<'a> {
        let random = fastrand::Rng::with_seed(number as u64);
        Load { client: Client::new(bed), random, name: format!("killed-{number}"), image }
    }

    /// Asks for something; whether there was an answer.
    fn step(&mut self, url: &str) -> bool {
        let path = |rest: &str| format!("/instances/{}{rest}", self.name);
        let created = json!({
            "name": self.name, "image": self.image, "size": "128MB", "overlay_size": "64MB",
            "vcpus": 1, "cmd": COUNTING, "network": {"enabled": false},
        });
        let (method, path, body) = match self.random.u32(0..12) {
            0..3 => ("POST", "/instances".to_owned(), created),
            3 => ("POST", path("/standby"), Value::Null),
            4 => ("POST", path("/restore"), Value::Null),
            5 => ("POST", path("/snapshots"), json!({ "kind": "Standby" })),
            6 => ("POST", path("/start"), json!({})),
            7 => ("DELETE", path("?graceful_shutdown=false"), Value::Null),
            8 => ("GET", path("/stat?path=/bin/sh"), Value::Null),
            9 => ("GET", "/instances".to_owned(), Value::Null),
            10 => (
                "POST",
                format!("/images/{}/tag", self.image.replace('/', "%2F")),
                json!({"target": "killed/tag"}),
            ),
            _ => ("GET", path("/logs?tail=5"), Value::Null),
        };
        let body = Some(body).filter(|body| !body.is_null());
        match self.client.ask(url, method, &path, body.as_ref()) {
            Some((status, answer)) => {
                assert!(status < 500 || status == 501, "{method} {path}: {status} {answer}");
                true
            }
            None => false, // killed
        }
    }
}

/// Records and VMs agree, consoles are whole, and each instance can be used and removed.
fn check(bed: &Bed) {
    let server = Server::start(bed);
    for number in 0..CLIENTS {
        let name = format!("killed-{number}");
        let instance = Instance::named(bed, &name);
        if bed.run(&["inspect", &name]).code != 0 {
            continue; // removed, or not begun
        }
        // What a shim was asked for it does to its end.
        let rests = ["Created", "Stopped", "Standby", "Running"];
        until("nothing is under way", || rests.contains(&&*instance.state()));
        let state = instance.state();
        let (status, seen) = server.ask("GET", &format!("/instances/{name}"), None);
        assert_eq!((status, &seen["state"]), (200, &json!(state)), "{seen}");
        if state == "Standby" {
            bed.ok(&["restore", &name]);
        }
        if ["Created", "Stopped"].contains(&state.as_str()) {
            bed.ok(&["start", &name]);
        }
        bed.ok(&["wait", "--for", "running", "--timeout", "60", &name]);
        assert_eq!(bed.shell(&name, "echo here"), "here");
        bed.ok(&["stop", "-t", "20", &name]);
        assert_counted(&instance.log());
        bed.ok(&["rm", &name]);
    }
    let snapshots = bed.ok(&["snapshot", "ls", "--format", "json"]);
    let snapshots = snapshots.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    for snapshot in snapshots.filter(|snapshot| {
        snapshot["source_instance_name"].as_str().is_some_and(|name| name.starts_with("killed-"))
    }) {
        bed.ok(&["snapshot", "rm", snapshot["id"].as_str().expect("an id")]);
    }
    let _ = bed.run(&["image", "rm", "killed/tag"]); // perhaps nobody has made it
}
