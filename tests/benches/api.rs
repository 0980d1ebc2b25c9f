//! The HTTP API beside the same commands of `hypeman`. Prints tables for docs/performance.md.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::ch::double;
use hypeman_tests::fixtures::{self, busybox, testguest};
use hypeman_tests::measure::{cpu_seconds, create_many, median, pss, timed};
use hypeman_tests::needs::{BUSYBOX, QEMU};
use hypeman_tests::server::Server;
use hypeman_tests::vm::Instance;

/// Instances that are listed.
const LISTS: [usize; 2] = [1_000, 10_000];

/// VMs that run beside a server.
const VMS: usize = 1_000;

/// How long the server is left alone.
const IDLE: Duration = Duration::from_secs(20);

/// Rounds of each measurement.
const ROUNDS: usize = 21;

/// Size of the log that is read, in bytes.
const LOG: u64 = 1 << 30;

/// Followers of one VM.
const FOLLOWERS: usize = 500;

/// How long they follow.
const FOLLOWED: Duration = Duration::from_secs(10);

fn main() {
    for need in [QEMU, BUSYBOX] {
        if let Some(lacking) = need.lacking() {
            println!("SKIPPED api: {lacking}");
            return;
        }
    }
    hypeman_files::raise_descriptor_limit();
    calls();
    lists();
    vms();
    logs();
    followers();
}

/// A client with connections that are kept.
struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl Client {
    fn new(bed: &Bed, server: &Server<'_>) -> Client {
        let authorization = format!("Bearer {}", bed.ok(&["token"]));
        Client { agent: ureq::Agent::new_with_defaults(), url: server.url.clone(), authorization }
    }

    /// Asks for something, and reads all of the answer.
    fn get(&self, path: &str) {
        let _ = std::io::copy(&mut self.open(path), &mut std::io::sink()).expect("an answer");
    }

    fn open(&self, path: &str) -> impl Read + use<> {
        let request =
            self.agent.get(format!("{}{path}", self.url)).header("authorization", &self.authorization);
        request.call().expect("an answer").into_body().into_reader()
    }
}

/// Runs a command in a guest, to its exit code.
fn exec(client: &hypeman_tests::server::Client, server: &Server<'_>, name: &str) {
    let path = format!("/instances/{name}/exec");
    let socket = client.converse(&server.url, &path, &serde_json::json!({"command": ["true"]}));
    let mut socket = socket.expect("a websocket");
    while !socket.read().expect("a frame").is_text() {}
}

/// Medians of two ways, in turn, in milliseconds.
fn in_turn(mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        first.push(timed(&mut one).0);
        second.push(timed(&mut other).0);
    }
    (median(first), median(second))
}

fn run(bed: &Bed, arguments: &[&str]) {
    let status = bed.command(arguments).stdout(Stdio::null()).status().expect("hypeman");
    assert!(status.success(), "hypeman {arguments:?}");
}

fn row(what: &str, (command, api): (f64, f64)) {
    println!("| {what} | {command:.1} ms | {api:.1} ms | {:.2} |", api / command);
}

fn head(what: &str) {
    println!("\n| {what}, median of {ROUNDS} | command | API | API by command |\n|---|---|---|---|");
}

fn calls() {
    let bed = fixtures::bed();
    let server = Server::start(bed);
    let client = Client::new(bed, &server);
    let vm = Instance::idle(bed, "api-bench", &["--accel", "tcg"]);
    bed.ok(&["exec", &vm.name, "true"]);
    let dialer = hypeman_tests::server::Client::new(bed);
    head("one call");
    let describe = || client.get("/instances/api-bench");
    row("`inspect`", in_turn(|| run(bed, &["inspect", "api-bench"]), describe));
    let stat = || client.get("/instances/api-bench/stat?path=/bin/sh");
    row("`stat`", in_turn(|| run(bed, &["stat", "api-bench", "/bin/sh"]), stat));
    row(
        "`exec` of `true`",
        in_turn(|| run(bed, &["exec", "api-bench", "true"]), || exec(&dialer, &server, "api-bench")),
    );
}

fn lists() {
    head("a list");
    for count in LISTS {
        let scratch = tempfile::tempdir().expect("a directory");
        let bed = Bed::new(scratch.path());
        create_many(&bed, count, &[]);
        let server = Server::start(&bed);
        let client = Client::new(&bed, &server);
        let ours = || client.get("/instances");
        row(&format!("{count} instances"), in_turn(|| run(&bed, &["ps", "-a", "--format", "json"]), ours));
        println!("| memory of the server then (PSS) | | {} KiB | |", pss(server.id()));
    }
}

/// A server beside very many VMs, which are the double's: their VMMs take next to nothing.
fn vms() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let double = double(53);
    let hypervisor = ["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", &double, "--memory", "32m"];
    create_many(&bed, VMS, &[&hypervisor[..], &["--cmdline", "count=1 echo"]].concat());
    let names: Vec<String> = (0..VMS).map(|number| format!("i{number}")).collect();
    for names in names.chunks(50) {
        run(&bed, &[&["start"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    }
    let server = Server::start(&bed);
    let client = Client::new(&bed, &server);
    head(&format!("{VMS} VMs that run"));
    row("a list", in_turn(|| run(&bed, &["ps", "-a", "--format", "json"]), || client.get("/instances")));
    println!("| memory of the server then (PSS) | | {} KiB | |", pss(server.id()));
    let before = cpu_seconds(server.id());
    std::thread::sleep(IDLE);
    let used = cpu_seconds(server.id()) - before;
    println!("| CPU of the server in {} s without a request | | {used:.2} s | |", IDLE.as_secs());
    for names in names.chunks(50) {
        run(&bed, &[&["rm", "-f"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    }
}

fn logs() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    bed.ok(&["create", "--name", "log", "--kernel", testguest()]);
    let log = bed.data_dir.join("instances").join(&bed.instance_directories()[0]).join("logs/app.log");
    let line = format!("{}\n", "a line of a log, as programs print them ".repeat(2));
    let lines = line.repeat((1 << 20) / line.len());
    let mut file = std::fs::File::create(&log).expect("a log");
    while file.metadata().expect("a log").len() < LOG {
        std::io::Write::write_all(&mut file, lines.as_bytes()).expect("write");
    }
    let server = Server::start(&bed);
    let client = Client::new(&bed, &server);
    // Both are read by this process: what goes to nowhere costs nothing.
    let (command, ()) = timed(|| {
        let mut logs = bed.command(&["logs", "log"]).stdout(Stdio::piped()).spawn().expect("hypeman");
        std::io::copy(&mut logs.stdout.take().expect("a pipe"), &mut std::io::sink()).expect("the log");
        assert!(logs.wait().expect("hypeman").success());
    });
    let (api, ()) = timed(|| client.get("/instances/log/logs?tail=1000000000"));
    println!("\n| 1 GiB of log, once | time | speed by `hypeman logs` |\n|---|---|---|");
    println!("| `hypeman logs` | {} ms | 1.00 |", command.as_millis());
    println!(
        "| server-sent events | {} ms | {:.2} |",
        api.as_millis(),
        command.as_secs_f64() / api.as_secs_f64()
    );
}

fn followers() {
    let bed = fixtures::bed();
    let server = Server::start(bed);
    // About 1 KB a second.
    let program = [
        "sh",
        "-c",
        "while sleep 0.1; do echo 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789; done",
    ];
    let vm = Instance::run(bed, "api-followed", &[&["--accel", "tcg", busybox()][..], &program].concat());
    vm.prints();
    let before = cpu_seconds(server.id());
    let lines: usize = std::thread::scope(|threads| {
        let follow = || {
            let client = Client::new(bed, &server);
            let reader = BufReader::new(client.open("/instances/api-followed/logs?follow=true&tail=0"));
            let deadline = Instant::now() + FOLLOWED;
            reader
                .lines()
                .take_while(|_| Instant::now() < deadline)
                .filter(|line| !line.as_ref().is_ok_and(String::is_empty))
                .count()
        };
        let following: Vec<_> = (0..FOLLOWERS).map(|_| threads.spawn(follow)).collect();
        following.into_iter().map(|follower| follower.join().expect("a follower")).sum()
    });
    let used = cpu_seconds(server.id()) - before;
    println!("\n| {FOLLOWERS} followers of one VM for {} s | |\n|---|---|", FOLLOWED.as_secs());
    println!("| lines that came | {lines} |");
    println!("| CPU of the server | {used:.2} s |");
    println!("| memory of the server (PSS) | {} KiB |", pss(server.id()));
}
