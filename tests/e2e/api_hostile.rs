//! Clients and guests that mean a server no good.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use hypeman_files::Lock;
use hypeman_record::names;
use hypeman_record::protocol::{self, Request, Response};
use hypeman_record::state::State;
use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::measure::pss;
use hypeman_tests::needs::{BUSYBOX, CURL, QEMU};
use hypeman_tests::server::{Client, Server, Socket};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::promises;

promises! {
    [QEMU, CURL] two_thousand_idle_streams_keep_nobody_from_being_served;
    [QEMU, BUSYBOX, CURL] a_guest_that_floods_or_stalls_harms_nobody_else;
    [QEMU, CURL] an_agent_that_lies_is_an_error;
}

/// Streams that nobody reads.
const STREAMS: usize = 2000;

/// Growth of the server by each, in bytes: buffers of two connections, the client's and the shim's.
const PER_STREAM: u64 = 64 << 10;

/// Growth of the server that anything else here may cause, in bytes.
const GROWTH: u64 = 64 << 20;

/// Sends the head of a request that is not read to its end; the connection, and its first line.
fn ask(server: &Server<'_>, token: &str, path: &str) -> (BufReader<TcpStream>, String) {
    let address = server.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("connect");
    let head = format!("host: {address}\r\nauthorization: Bearer {token}\r\nconnection: close");
    write!(stream, "GET {path} HTTP/1.1\r\n{head}\r\n\r\n").expect("send");
    let mut stream = BufReader::with_capacity(256, stream);
    let mut line = String::new();
    stream.read_line(&mut line).expect("a status");
    (stream, line)
}

fn socket(server: &Server<'_>, client: &Client, path: &str, request: &Value) -> Socket {
    client.converse(&server.url, path, request).expect("a websocket")
}

/// Whether a server answers others, and has not grown much since it had so many bytes.
fn serves_others(server: &Server<'_>, before: u64, most: u64) {
    for _ in 0..20 {
        assert_eq!(server.ask("GET", "/instances", None).0, 200);
    }
    let grown = pss(server.id()).saturating_sub(before) * 1024;
    assert!(grown < most, "the server has grown by {grown} bytes");
}

fn two_thousand_idle_streams_keep_nobody_from_being_served() {
    hypeman_files::raise_descriptor_limit();
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let vm = Guest::new(&bed, "idle").quiet().run();
    let server = Server::start(&bed);
    let token = bed.ok(&["token"]);
    let before = pss(server.id());
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let (stream, status) = ask(&server, &token, "/instances/idle/logs?follow=true&tail=1");
            assert_eq!(status.trim(), "HTTP/1.1 200 OK");
            stream
        })
        .collect();
    serves_others(&server, before, STREAMS as u64 * PER_STREAM);
    // They are streams: each ends with its VM.
    bed.ok(&["kill", &vm.name]);
    for mut stream in streams {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the end");
    }
    bed.ok(&["rm", &vm.name]);
}

fn a_guest_that_floods_or_stalls_harms_nobody_else() {
    let bed = bed();
    let vm =
        Instance::run(bed, "api-floods", &["--memory", "256m", hypeman_tests::fixtures::busybox(), "yes"]);
    bed.ok(&["wait", "--for", "running", "--timeout", "60", &vm.name]);
    let server = Server::start(bed);
    let (client, token) = (Client::new(bed), bed.ok(&["token"]));
    assert_eq!(server.ask("GET", "/instances/api-floods/stat?path=/bin/sh", None).0, 200);
    let before = pss(server.id());
    // Each brings something, and then nobody reads on.
    let (_log, status) = ask(&server, &token, "/instances/api-floods/logs?follow=true");
    assert_eq!(status.trim(), "HTTP/1.1 200 OK");
    let path = |operation: &str| format!("/instances/api-floods/{operation}");
    let flood = json!({"command": ["sh", "-c", "yes & yes >&2"]});
    let mut exec = socket(&server, &client, &path("exec"), &flood);
    assert!(exec.read().expect("a frame").is_binary());
    bed.shell(&vm.name, "truncate -s 10G /tmp/large");
    let large = json!({"direction": "from", "guest_path": "/tmp/large", "is_dir": false});
    let mut copy = socket(&server, &client, &path("cp"), &large);
    assert!(copy.read().expect("a frame").is_text());
    serves_others(&server, before, GROWTH);
    // A client that leaves ends what it has begun.
    drop((exec, copy));
    until("the commands have ended", || !bed.shell(&vm.name, "ps").contains("yes >&2"));
    // One that stands still is refused.
    bed.ok(&["pause", &vm.name]);
    let (_, status) = ask(&server, &token, &path("exec"));
    assert!(status.contains(" 409 "), "{status}");
    serves_others(&server, before, GROWTH);
    bed.ok(&["resume", &vm.name]);
    until("it answers again", || server.ask("GET", "/instances/api-floods/stat?path=/bin/sh", None).0 == 200);
}

/// Output of a command over the API, and its exit code.
fn told(socket: &mut Socket) -> (String, i64) {
    let mut told = String::new();
    loop {
        match socket.read().expect("a frame") {
            Message::Binary(bytes) => told += &String::from_utf8_lossy(&bytes),
            Message::Text(text) => {
                let ended: Value = serde_json::from_str(&text).expect("JSON");
                return (told, ended["exitCode"].as_i64().expect("an exit code"));
            }
            _ => {}
        }
    }
}

/// Answers of an agent that lies. The first says nothing, and the second hangs up; a message larger
/// than any, messages that are none, data that nobody has asked for, and noise.
const LIES: [Option<&[u8]>; 6] = [
    None,
    Some(b""),
    Some(b"\x00\xff\xff\xff{"),
    Some(b"\x00\x00\x00\x02{}\x00\x00\x00\x01["),
    Some(b"\x01\x00\x00\x04data\x07\x00\x00\x00"),
    Some(&[0xff; 1 << 16]),
];

fn an_agent_that_lies_is_an_error() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = &Bed::new(scratch.path());
    let server = &Server::start(bed);
    let client = &Client::new(bed);
    let before = pss(server.id());
    let exec = |name: &str| {
        let request = json!({"command": ["true"]});
        let (told, code) = told(&mut socket(server, client, &format!("/instances/{name}/exec"), &request));
        assert!(code == 127 && told.starts_with("Error: "), "{code} {told}");
    };
    let stat = |name: &str| {
        let (status, answer) = server.ask("GET", &format!("/instances/{name}/stat?path=/"), None);
        assert!(status == 409 && answer["code"].is_string(), "{status} {answer}");
    };
    let copy = |name: &str| {
        let request = json!({"direction": "from", "guest_path": "/a", "is_dir": false});
        let mut copy = socket(server, client, &format!("/instances/{name}/cp"), &request);
        let frame: Value = serde_json::from_slice(&copy.read().expect("a frame").into_data()).expect("JSON");
        assert_eq!(frame["type"], "error", "{frame}");
    };
    let meets_each_lie = |name: &str, operation: &dyn Fn(&str)| {
        let vm = Guest::new(bed, name).create();
        let pid_file = vm.directory().join(names::SHIM_PID);
        std::fs::write(&pid_file, "").expect("the file of a shim");
        let _held = Lock::acquire(&pid_file).expect("the lock of a shim");
        pretend(&vm.directory());
        LIES.iter().for_each(|_| operation(name));
    };
    std::thread::scope(|threads| {
        threads.spawn(|| meets_each_lie("exec", &exec));
        threads.spawn(|| meets_each_lie("stat", &stat));
        threads.spawn(|| meets_each_lie("cp", &copy));
    });
    serves_others(server, before, GROWTH);
}

/// A shim that says its VM runs, and lets each conversation with the agent be one of some lies.
fn pretend(directory: &Path) {
    let _ = std::fs::remove_file(directory.join(names::SHIM_SOCKET));
    let listener = UnixListener::bind(directory.join(names::SHIM_SOCKET)).expect("a socket");
    std::thread::spawn(move || {
        let mut next = LIES.into_iter().cycle();
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            if is_for_agent(&mut stream) {
                let lie = next.next().expect("a lie");
                std::thread::spawn(move || {
                    if let Some(lie) = lie {
                        let _ = stream.get_mut().write_all(lie); // it may have left
                        let _ = stream.get_ref().shutdown(std::net::Shutdown::Write);
                    }
                    let _ = stream.read_to_end(&mut Vec::new()); // until it leaves
                });
            }
        }
    });
}

/// Answers what a shim is asked, to the end of the conversation; whether it goes on with the agent.
fn is_for_agent(stream: &mut BufReader<UnixStream>) -> bool {
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        let request = serde_json::from_str(&line).expect("a request");
        let answer = match &request {
            Request::Hello { release } => Response::Hello {
                release: release.clone(),
                abilities: Request::ABILITIES.map(str::to_owned).to_vec(),
            },
            Request::Agent => Response::Done,
            _ => Response::State { state: State::Running, reason: None, health: None, console: None },
        };
        let _ = stream.get_mut().write_all(&protocol::line(&answer).expect("JSON")); // it may have left
        if request == Request::Agent {
            return true;
        }
        line.clear();
    }
    false
}
