//! A server that is killed again and again while clients ask for this and that.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::console::assert_counted;
use hypeman_tests::fixtures::{bed, busybox, busybox_tar};
use hypeman_tests::needs::{BUSYBOX, CURL, QEMU, REGISTRY, SKOPEO};
use hypeman_tests::registry::Registry;
use hypeman_tests::server::{Client, Server};
use hypeman_tests::vm::{COUNTING, Instance};
use hypeman_tests::wait::{eventually, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::promises;

promises! {
    [QEMU, BUSYBOX, CURL, REGISTRY, SKOPEO] a_server_killed_at_any_moment_leaves_whole_instances;
}

/// Images that are pulled and removed.
const PULLED: usize = 3;

/// Kills of the server.
const KILLS: usize = 100;

/// Clients, each with instances of its own.
const CLIENTS: usize = 3;

fn a_server_killed_at_any_moment_leaves_whole_instances() {
    let bed = bed();
    let image = busybox();
    let scratch = tempfile::tempdir().expect("a directory");
    let registry = Registry::start_open(scratch.path());
    let pulled: Vec<String> =
        (0..PULLED).map(|number| format!("{}/killed:{number}", registry.address)).collect();
    for number in 0..PULLED {
        registry.push(
            &busybox_tar(),
            &format!("killed:{number}"),
            &["/bin/sh", "-c", &format!("exit {number}")],
        );
    }
    let address = Mutex::new(String::new());
    let is_over = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for number in 0..CLIENTS {
            let (address, is_over, answers, pulled) = (&address, &is_over, &answers, &pulled);
            threads.spawn(move || {
                let mut client = Load::new(bed, number, image, pulled);
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
    check_images(bed, &pulled);
}

/// What one client does, again and again.
struct Load<'a> {
    client: Client,
    random: fastrand::Rng,
    name: String,
    image: &'a str,
    /// Images of a registry.
    pulled: &'a [String],
}

impl<'a> Load<'a> {
    fn new(bed: &Bed, number: usize, image: &'a str, pulled: &'a [String]) -> Load<'a> {
        let random = fastrand::Rng::with_seed(number as u64);
        Load { client: Client::new(bed), random, name: format!("killed-{number}"), image, pulled }
    }

    /// Asks for something; whether there was an answer.
    fn step(&mut self, url: &str) -> bool {
        let path = |rest: &str| format!("/instances/{}{rest}", self.name);
        let created = json!({
            "name": self.name, "image": self.image, "size": "128MB", "overlay_size": "64MB",
            "vcpus": 1, "cmd": COUNTING, "network": {"enabled": false},
        });
        let pulled = &self.pulled[self.random.usize(0..self.pulled.len())];
        let (method, path, body) = match self.random.u32(0..15) {
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
            11 => ("POST", "/images".to_owned(), json!({"name": pulled})),
            12 => ("DELETE", format!("/images/{}", pulled.replace('/', "%2F")), Value::Null),
            13 => return self.exec(url, &path("/exec")),
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

    /// Runs a command to its end; whether there was an answer.
    fn exec(&self, url: &str, path: &str) -> bool {
        let command = json!({"command": ["sh", "-c", "echo begun; sleep 0.2"]});
        match self.client.converse(url, path, &command) {
            Ok(mut socket) => loop {
                match socket.read() {
                    Ok(frame) if frame.is_text() => return true,
                    Ok(_) => {}
                    Err(_) => return false, // killed
                }
            },
            Err(tungstenite::Error::Http(refused)) => {
                assert!(refused.status().is_client_error(), "{path}: {refused:?}");
                true
            }
            Err(_) => false, // killed
        }
    }
}

/// Each image is whole, or not there: a pull that was under way is gone on with.
fn check_images(bed: &Bed, pulled: &[String]) {
    let server = Server::start(bed);
    for name in pulled {
        let path = format!("/images/{}", name.replace('/', "%2F"));
        let image = eventually("no pull is under way", || {
            let (status, image) = server.ask("GET", &path, None);
            let is_over = status == 404 || image["status"] == "ready";
            assert_ne!(image["status"], "failed", "{image}");
            is_over.then_some(image)
        });
        if image["status"] == "ready" {
            bed.ok(&["image", "inspect", name]);
            assert_eq!(server.ask("DELETE", &path, None).0, 204);
        }
        assert_ne!(bed.run(&["image", "inspect", name]).code, 0);
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
