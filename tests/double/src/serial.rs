//! The serial line (`vmm/src/serial_manager.rs`, `vmm/src/console_devices.rs`).

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, epoll, poll};

use crate::ring::Ring;

/// How long the serial thread needs to come to its turn after a client has connected, as on a busy
/// host: longer than the guest needs to print a line.
const LATE: Duration = Duration::from_millis(20);

/// Where the guest's UART ends.
#[derive(Clone)]
pub(crate) struct Line {
    output: Arc<Mutex<Output>>,
    /// The socket, which a clean exit unlinks (`Drop for SerialManager`), and nothing else does.
    path: Option<PathBuf>,
}

enum Output {
    /// Nowhere.
    Off,
    /// A file that was created, truncated and opened without O_APPEND (`File::create` in
    /// `pre_create_console_devices`).
    File(File),
    /// A client, if there is one; and the ring, for releases that have it (from v53.0, release
    /// notes).
    Socket { client: Option<UnixStream>, ring: Option<Ring> },
}

/// A line that was made and is not yet served.
pub(crate) struct Unserved {
    line: Line,
    listener: Option<UnixListener>,
}

impl Unserved {
    /// Makes the line as `vm.create` does: the socket is bound there, and a path that exists is an
    /// error.
    pub(crate) fn make(config: &serde_json::Value, release: u32) -> Result<Unserved, Vec<String>> {
        let field = |name: &str| config[name].as_str().map(PathBuf::from);
        let failed = |error: std::io::Error| {
            vec![
                "Error creating console devices".to_owned(),
                "Error creating serial".to_owned(),
                error.to_string(),
            ]
        };
        let (output, listener, path) = match (config["mode"].as_str(), field("socket"), field("file")) {
            (Some("Socket"), Some(path), _) => {
                let listener = UnixListener::bind(&path).map_err(failed)?;
                let ring = (release >= 53).then(Ring::default);
                (Output::Socket { client: None, ring }, Some(listener), Some(path))
            }
            (Some("File"), _, Some(path)) => (Output::File(File::create(path).map_err(failed)?), None, None),
            _ => (Output::Off, None, None),
        };
        Ok(Unserved { line: Line { output: Arc::new(Mutex::new(output)), path }, listener })
    }

    /// Serves the line from now on, as booting does. A client in the backlog is there before the
    /// guest runs: the thread that accepts it is started long before the vCPUs' are. Returns the
    /// line, and what clients type.
    pub(crate) fn serve(self) -> (Line, Receiver<u8>) {
        let (typed, input) = channel();
        if let Some(listener) = self.listener {
            let line = self.line.clone();
            let mut previous: Option<UnixStream> = None;
            let mut take = move |client: UnixStream| {
                if let Some(previous) = &previous {
                    let _ = previous.shutdown(Shutdown::Both);
                }
                previous = client.try_clone().ok();
                line.attach(client, &typed);
            };
            let _ = listener.set_nonblocking(true);
            while let Ok((client, _)) = listener.accept() {
                take(client);
            }
            let manager = thread::Builder::new().name("serial-manager".to_owned());
            let _ = manager.spawn(move || {
                while wait_for_client(&listener).is_ok() {
                    thread::sleep(LATE);
                    while let Ok((client, _)) = listener.accept() {
                        take(client);
                    }
                }
            });
        }
        (self.line, input)
    }
}

/// Sleeps in epoll_wait(2) until someone connects, as `start_thread` does.
fn wait_for_client(listener: &UnixListener) -> std::io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let mut events = Vec::with_capacity(1);
    while events.is_empty() {
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Line {
    /// Makes `client` the only one. From v53.0 on it is written to without waiting, and gets the
    /// ring.
    fn attach(&self, client: UnixStream, typed: &Sender<u8>) {
        let Ok(reader) = client.try_clone() else { return };
        if let Output::Socket { client: current, ring } = &mut *self.output.lock().expect("no panic") {
            let mut client = client;
            if let Some(ring) = ring {
                let _ = client.set_nonblocking(true);
                ring.flush(&mut client);
            }
            *current = Some(client);
        }
        let typed = typed.clone();
        thread::spawn(move || Line::read(reader, &typed));
    }

    fn read(mut reader: UnixStream, typed: &Sender<u8>) {
        // Its writing half does not wait, and it is the same file: so neither does it.
        let mut buffer = [0; 64];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    for &byte in &buffer[..length] {
                        let _ = typed.send(byte); // the guest need not listen
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut readable = [PollFd::new(&reader, PollFlags::IN)];
                    let _ = poll(&mut readable, None);
                }
                Err(_) => break,
            }
        }
        let _ = reader.shutdown(Shutdown::Both); // from here on, what is sent to it fails
    }

    /// Bytes from the guest.
    pub(crate) fn put(&self, bytes: &[u8]) {
        // Cloned, so that a client that is waited for (before v53.0) keeps nobody from taking its
        // place.
        let mut waited_for = match &mut *self.output.lock().expect("no panic") {
            Output::Off => return,
            Output::File(file) => return drop(file.write_all(bytes)),
            Output::Socket { client, ring: Some(ring) } => {
                let mut sent = 0;
                if let Some(client) = client
                    && ring.flush(client)
                {
                    sent = client.write(bytes).unwrap_or(0);
                }
                return bytes[sent..].iter().for_each(|byte| ring.keep(*byte));
            }
            Output::Socket { client, ring: None } => {
                client.as_ref().and_then(|client| client.try_clone().ok())
            }
        };
        if let Some(client) = &mut waited_for {
            let _ = client.write_all(bytes); // dropped when nobody is there
        }
    }

    /// Ends the line as a clean exit does.
    pub(crate) fn close(&self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
        *self.output.lock().expect("no panic") = Output::Off;
    }
}
