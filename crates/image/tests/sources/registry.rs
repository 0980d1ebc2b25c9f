//! Pulls from Debian's docker-registry, filled by skopeo, both on loopback.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use hypeman_image::{Error, PullRequest, Quiet};

use crate::fixtures::{Layer, cat, layout, store_in};

struct Registry {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A registry with one image, `app:1`; `None`, aloud, where the tools are missing.
fn registry() -> Option<Registry> {
    for tool in ["docker-registry", "skopeo"] {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: {tool} is not installed");
            return None;
        }
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = dir.path().join("config.yml");
    let storage = dir.path().join("storage");
    let yaml = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {storage:?}}}}}\n\
         http: {{addr: '127.0.0.1:{port}'}}\n"
    );
    std::fs::write(&config, yaml).unwrap();
    let mut command = Command::new("docker-registry");
    let process =
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let registry = Registry { process, port, dir };
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        thread::yield_now();
    }
    let source = registry.dir.path().join("layout");
    layout(&source, vec![Layer::new().file("a", "content"), crate::fixtures::noise()]);
    let to = format!("docker://127.0.0.1:{port}/app:1");
    let copied = Command::new("skopeo")
        .args([
            "copy",
            "-q",
            "--insecure-policy",
            "--dest-tls-verify=false",
            &format!("oci:{}", source.display()),
            &to,
        ])
        .status();
    assert!(copied.unwrap().success());
    Some(registry)
}

#[test]
fn a_pulled_image_is_the_one_that_was_pushed() {
    let Some(registry) = registry() else { return };
    let store = store_in(&registry.dir.path().join("data"));
    let reference = format!("127.0.0.1:{}/app:1", registry.port);
    let image = store.pull(&PullRequest::of(&reference), &Quiet).unwrap();
    assert_eq!(cat(&image.rootfs(), "a"), "content");
    assert_eq!(image.names.join(" "), reference);
    assert_eq!(image.config.entrypoint, ["/bin/app"]);
    // A second pull finds it here.
    assert_eq!(store.pull(&PullRequest::of(&reference), &Quiet).unwrap().imported, image.imported);
    let by_digest = format!("127.0.0.1:{}/app@{}", registry.port, image.digest);
    assert_eq!(store.pull(&PullRequest::of(&by_digest), &Quiet).unwrap().digest, image.digest);
}

#[test]
fn errors_name_the_image_and_the_registry() {
    let Some(registry) = registry() else { return };
    let store = store_in(&registry.dir.path().join("data"));
    let missing = store
        .pull(&PullRequest::of(&format!("127.0.0.1:{}/app:2", registry.port)), &Quiet)
        .unwrap_err()
        .to_string();
    assert!(missing.contains("app:2") && missing.contains("look at its name"), "{missing}");
    let closed = format!("127.0.0.1:{}/app:1", free_port());
    let refused = store.pull(&PullRequest::of(&closed), &Quiet).unwrap_err().to_string();
    assert!(refused.contains(&closed) && refused.contains("refused"), "{refused}");
}

/// Passes `limit` bytes of an answer on, then cuts the connection, so many times; and after that it
/// is dead, if it `dies`, or passes on all.
fn cutting_proxy(to: u16, limit: u64, times: u32, dies: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cuts = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if dies && cuts.load(Ordering::SeqCst) >= times {
                return;
            }
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let (mut upward, mut downward) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut upward, &mut downward));
            let limit = if cuts.load(Ordering::SeqCst) < times { limit } else { u64::MAX };
            let (mut from, mut back, cuts) = (server.take(limit), client, cuts.clone());
            thread::spawn(move || {
                let passed = std::io::copy(&mut from, &mut back).and_then(|_| back.flush());
                if passed.is_ok() && from.limit() == 0 {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    let _ = dies.then(|| TcpStream::connect(("127.0.0.1", port))); // wakes the one who listens
                }
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_layer_that_breaks_off_is_gone_on_with() {
    let Some(registry) = registry() else { return };
    let port = cutting_proxy(registry.port, 600 << 10, 1, false);
    let store = store_in(&registry.dir.path().join("data"));
    let image = store.pull(&PullRequest::of(&format!("127.0.0.1:{port}/app:1")), &Quiet).unwrap();
    assert_eq!(cat(&image.rootfs(), "a"), "content");
}

/// Answers that ask for patience: 503 twice, and 429 twice, before each document.
fn busy_proxy(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let mut client = client;
            let refusal = match number {
                1 => "503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy",
                2 => {
                    "429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                }
                _ => "",
            };
            if !refusal.is_empty() {
                let mut request = [0; 4096];
                let _ = client.read(&mut request).unwrap();
                write!(client, "HTTP/1.1 {refusal}").unwrap();
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let (mut upward, mut downward) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut upward, &mut downward));
            // One answer a connection, so that there are enough of them: a quiet one is closed.
            server.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
            let mut from = server;
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    let Some(registry) = registry() else { return };
    let port = busy_proxy(registry.port);
    let store = store_in(&registry.dir.path().join("data"));
    store.pull(&PullRequest::of(&format!("127.0.0.1:{port}/app:1")), &Quiet).unwrap();
}

#[test]
fn a_registry_that_dies_within_a_layer_leaves_nothing_and_the_pull_can_be_run_again() {
    let Some(registry) = registry() else { return };
    // skopeo compresses neither layer; the manifest fits below the limit and the second layer does
    // not.
    let port = cutting_proxy(registry.port, 100 << 10, 1, true);
    let data = registry.dir.path().join("data");
    let store = store_in(&data);
    let error = store.pull(&PullRequest::of(&format!("127.0.0.1:{port}/app:1")), &Quiet).unwrap_err();
    assert!(matches!(error, Error::Pull { .. }), "{error}");
    let left = std::fs::read_dir(data.join("images")).unwrap().flatten().map(|e| e.file_name());
    assert_eq!(left.filter(|name| name != ".lock").count(), 0, "{error}");
    store.pull(&PullRequest::of(&format!("127.0.0.1:{}/app:1", registry.port)), &Quiet).unwrap();
}
