//! A server of the HTTP API.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::bed::Bed;
use crate::processes::KilledOnDrop;

/// A server on a port of its own, which is killed with this.
#[derive(Debug)]
pub struct Server<'a> {
    bed: &'a Bed,
    process: KilledOnDrop,
    /// Its address, as clients want it.
    pub url: String,
}

impl<'a> Server<'a> {
    /// Starts a server on the data directory of a bed.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(bed: &'a Bed) -> Server<'a> {
        Server::start_with(bed, &[])
    }

    /// Starts a server with variables of the environment.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(bed: &'a Bed, variables: &[(&str, &str)]) -> Server<'a> {
        let mut command = bed.command(&["serve", "--listen", "127.0.0.1:0"]);
        // Several servers run at once.
        command.env("METRICS__PORT", "0").envs(variables.iter().copied());
        let mut process = command.stderr(Stdio::piped()).spawn().expect("hypeman serve");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let mut next = || lines.next().expect("a line").expect("text");
        let url = loop {
            let line = next();
            if let Some((_, url)) = line.split_once(" on http://") {
                break format!("http://{}", url.split(' ').next().unwrap_or_default());
            }
        };
        // What it says later is shown with the test's own output.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("server: {line}")));
        Server { bed, process: KilledOnDrop(process), url }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Runs a client with the server's address and a token for everything; it has to succeed.
    ///
    /// # Panics
    /// When it fails, with all it said.
    pub fn serves(&self, client: &mut Command) {
        let token = self.bed.ok(&["token"]);
        client.env("HYPEMAN_BASE_URL", &self.url).env("HYPEMAN_API_KEY", token);
        let output = client.output().expect("run the client");
        let told = [output.stdout, output.stderr].map(|told| String::from_utf8_lossy(&told).into_owned());
        assert!(output.status.success(), "{}: {}", output.status, told.concat());
    }

    /// Asks for an operation; the status, and the answer.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        Client::new(self.bed).ask(&self.url, method, path, body).expect("an answer")
    }

    /// Sends the server a signal, and waits for its end; returns its exit code.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn end(&mut self, signal: Signal) -> Option<i32> {
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal); // it may have ended
        }
        self.process.0.wait().expect("wait for the server").code()
    }
}

/// A client with a token for everything.
#[derive(Debug)]
pub struct Client {
    token: String,
}

impl Client {
    /// A client of the servers of a bed.
    #[must_use]
    pub fn new(bed: &Bed) -> Client {
        Client { token: bed.ok(&["token"]) }
    }

    /// Asks the server at `url` for an operation; the status, and the answer if it is JSON. `None`
    /// when there is no server, or it breaks off.
    ///
    /// # Panics
    /// When there is no curl.
    #[must_use]
    pub fn ask(&self, url: &str, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-X", method, "-w", "\n%{http_code}", "-H"]);
        curl.arg(format!("Authorization: Bearer {}", self.token));
        if let Some(body) = body {
            curl.args(["-H", "Content-Type: application/json", "-d"]).arg(body.to_string());
        }
        let output = curl.arg(format!("{url}{path}")).output().expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (answer, status) = text.rsplit_once('\n').filter(|_| output.status.success())?;
        Some((status.parse().ok()?, serde_json::from_str(answer).unwrap_or_default()))
    }
}

/// A conversation over a websocket.
pub type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

impl Client {
    /// Begins a conversation with a guest: exec or cp, by its first frame.
    ///
    /// # Errors
    /// When the server refuses, or there is none.
    pub fn converse(&self, url: &str, path: &str, first: &Value) -> tungstenite::Result<Socket> {
        let mut request = format!("{}{path}", url.replace("http://", "ws://")).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        let (mut socket, _) = tungstenite::connect(request)?;
        socket.send(Message::text(first.to_string()))?;
        Ok(socket)
    }
}

/// Where upstream's clients are installed, by `scripts/sdks.sh`.
#[must_use]
pub fn sdks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("sdk")
}

/// The programs of the tests that drive a server by upstream's clients.
#[must_use]
pub fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")
}
