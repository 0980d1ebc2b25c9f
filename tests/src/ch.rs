//! Cloud Hypervisor: the real one where it can be had, or its contract double.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::bed::Bed;
use crate::needs::Need;
use crate::wait::until;

/// The programs to test with: the real Cloud Hypervisor that `HYPEMAN_TEST_CLOUD_HYPERVISOR` names,
/// or else the double with the manners of v53 and with those of the releases before.
#[must_use]
pub fn programs() -> &'static [String] {
    static PROGRAMS: OnceLock<Vec<String>> = OnceLock::new();
    PROGRAMS.get_or_init(|| match std::env::var("HYPEMAN_TEST_CLOUD_HYPERVISOR") {
        Ok(real) => vec![real],
        Err(_) => vec![double(53), double(52)],
    })
}

/// Whether they are the real thing.
#[must_use]
pub fn is_real() -> bool {
    std::env::var_os("HYPEMAN_TEST_CLOUD_HYPERVISOR").is_some()
}

/// Why these tests cannot run, and a word about what they run on.
#[must_use]
pub fn lacking() -> Option<String> {
    if is_real() {
        return Need::Kvm.lacking();
    }
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        eprintln!(
            "SKIPPED with the real Cloud Hypervisor, on its double instead: name a binary in HYPEMAN_TEST_CLOUD_HYPERVISOR"
        );
    });
    None
}

/// Does the same with the arguments for each of them.
pub fn on_each(test: impl Fn(&[&str])) {
    for program in programs() {
        test(&["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", program]);
    }
}

/// The double, with the manners of a release.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn double(release: u32) -> String {
    let double = Bed::new(Path::new("")).hypeman.with_file_name("cloud-hypervisor-double");
    assert!(double.is_file(), "{} is not built: run `cargo build --workspace --bins`", double.display());
    // Its name tells it. Linked aside and renamed: another test may just be running the old one.
    let link = double.with_file_name(format!("cloud-hypervisor-double-v{release}"));
    let aside = tempfile::tempdir_in(double.parent().expect("a directory")).expect("a directory");
    let made = aside.path().join("double");
    std::fs::hard_link(&double, &made).and_then(|()| std::fs::rename(&made, &link)).expect("link");
    link.to_str().expect("UTF-8").to_owned()
}

/// A program that begins as Cloud Hypervisor `real` does and then does what `text` says, in the
/// instance's directory; `$1` and so on are its arguments.
#[must_use]
pub fn saboteur(directory: &Path, name: &str, real: &str, text: &str) -> String {
    let version = format!("[ \"$1\" != --version ] || exec {real} --version");
    script(&directory.join(name), &format!("{version}\n{}", text.replace("REAL", real)))
}

/// Writes a script aside and renames it: another test may just be running the old one.
fn script(path: &Path, text: &str) -> String {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().expect("a directory")).expect("a file");
    writeln!(file, "#!/bin/sh\n{text}").expect("write");
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755)).expect("chmod");
    file.into_temp_path().persist(path).expect("rename");
    path.to_str().expect("UTF-8").to_owned()
}

/// Connects to a socket by the handle of its directory, whose path may be too long for a socket's.
///
/// # Panics
/// When nobody listens there.
#[must_use]
pub fn connect(socket: &Path) -> UnixStream {
    let directory = std::fs::File::open(socket.parent().expect("a directory")).expect("open");
    let name = socket.file_name().expect("a name").display();
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())).expect("connect")
}

/// A Cloud Hypervisor that is driven by hand, without hypeman.
#[derive(Debug)]
pub struct ByHand {
    /// Ours to end.
    child: Option<std::process::Child>,
    socket: PathBuf,
}

impl ByHand {
    /// Starts it in `directory`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(program: &str, directory: &Path) -> ByHand {
        let socket = directory.join("api.sock");
        let mut child = std::process::Command::new(program)
            .args(["--api-socket", "api.sock"])
            .current_dir(directory)
            .spawn()
            .expect("start it");
        until("it listens", || {
            assert!(child.try_wait().expect("wait").is_none(), "it ended");
            UnixStream::connect(&socket).is_ok()
        });
        ByHand { child: Some(child), socket }
    }

    /// The one that someone else has started, and that listens on `socket`.
    #[must_use]
    pub fn running(socket: &Path) -> ByHand {
        ByHand { child: None, socket: socket.to_owned() }
    }

    /// Puts a request.
    ///
    /// # Panics
    /// When it fails.
    pub fn put(&self, request: &str, body: &serde_json::Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = connect(&self.socket);
        let length = body.len();
        write!(
            stream,
            "PUT /api/v1/{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("send");
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).expect("receive");
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 20"), "{request}: {answer}");
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}
