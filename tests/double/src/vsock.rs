//! The vsock device (`virtio-devices/src/vsock/unix/muxer.rs`). No guest runs here whose agent
//! could listen: each connection to its port gets an agent of its own, which runs on the host as
//! nobody, so that it can do nothing to it.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The port on which the agent listens.
const AGENT: &str = "CONNECT 1024";

/// The user and group `nobody` and `nogroup`, as everywhere.
const NOBODY: u32 = 65534;

/// Keeps what this process was given from the agents that it starts: the lock by which it is known
/// to run is among it. One that is confined cannot look, and can start nobody either.
pub(crate) fn keep_descriptors() {
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number: Option<i32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: it is borrowed for one call, and closed by nobody: there is one thread yet.
            #[allow(unsafe_code)]
            let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC); // that of the listing is closed
        }
    }
}

/// The device, until it is dropped.
pub(crate) struct Vsock(String);

impl Vsock {
    /// Binds the socket of the configuration, if there is one, and serves it.
    pub(crate) fn make(config: &Value) -> Result<Option<Vsock>, Vec<String>> {
        let Some(path) = config["vsock"]["socket"].as_str() else { return Ok(None) };
        let listener = UnixListener::bind(path).map_err(|error| {
            vec!["Error from API".to_owned(), format!("Cannot create vsock backend: {error}")]
        })?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(Some(Vsock(path.to_owned())))
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where nobody listens, the connection is closed.
fn serve(stream: UnixStream) {
    let mut line = String::new();
    // More comes only when the line is answered.
    let asked = stream.try_clone().and_then(|stream| BufReader::new(stream).read_line(&mut line));
    if asked.is_ok() && line.trim_end() == AGENT {
        let _ = run_agent(stream);
    }
}

fn run_agent(mut stream: UnixStream) -> std::io::Result<()> {
    let init = std::env::current_exe()?.with_file_name("hypeman-init");
    let user = format!("{NOBODY}:{NOBODY}");
    let config = json!({
        "hostname": "double", "mode": "exec", "argv": ["true"], "env": {"PATH": "/usr/bin:/bin"}, "workdir": "/",
        "user": user,
    });
    let mut setting = tempfile::tempfile()?;
    // Its channel is what it has beside its standard streams.
    let channel = stream.try_clone()?;
    rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::empty())?;
    setting.write_all(
        json!({"config": config, "program": null, "channel": channel.as_raw_fd()}).to_string().as_bytes(),
    )?;
    let mut command = Command::new(init);
    command.arg("agent").stdin(setting).stdout(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut agent = command.spawn()?;
    drop(channel);
    stream.write_all(b"OK 1073741824\n")?;
    drop(stream);
    agent.wait().map(drop)
}
