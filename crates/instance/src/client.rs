//! A client of the shim's socket.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use hypeman_record::end::End;
use hypeman_record::format::RELEASE;
use hypeman_record::names;
use hypeman_record::protocol::{Refusal, Request, Response};

use crate::error::{Error, Result};

/// Longest answer in bytes; the shim's are some hundred.
const MAX_ANSWER: u64 = 64 * 1024;

/// A connection to the shim of one instance.
#[derive(Debug)]
pub struct Client {
    name: String,
    stream: BufReader<UnixStream>,
    /// Who answers; known from the first question on.
    peer: Option<Peer>,
}

/// A shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its release; `None` for one of before shims told.
    pub release: Option<String>,
    /// What it can be asked for.
    abilities: Vec<String>,
}

impl Client {
    /// Connects to the shim of the instance `name` in `directory`.
    ///
    /// # Errors
    /// When no shim listens there.
    pub fn connect(name: &str, directory: &Path) -> Result<Client> {
        let shim = |source: std::io::Error| Error::Shim {
            name: name.to_owned(),
            reason: format!("its shim does not answer: {source}"),
        };
        // The path of a socket has 108 bytes (unix(7)) and a data directory may lie deeper than that.
        let handle = File::open(directory).map_err(shim)?;
        let path = format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), names::SHIM_SOCKET);
        let stream = UnixStream::connect(path).map_err(shim)?;
        Ok(Client { name: name.to_owned(), stream: BufReader::new(stream), peer: None })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the shim goes away or refuses.
    pub fn ask(&mut self, request: &Request) -> Result<Response> {
        let peer = self.peer()?;
        if !peer.abilities.iter().any(|ability| ability == request.ability()) {
            let release = peer.release.unwrap_or_else(|| "of an older release".to_owned());
            return Err(self.error(format!("its shim, hypeman {release}, knows no {}", request.ability())));
        }
        self.ask_peer(request)
    }

    /// Who answers.
    ///
    /// # Errors
    /// When the shim goes away.
    pub fn peer(&mut self) -> Result<Peer> {
        if let Some(peer) = &self.peer {
            return Ok(peer.clone());
        }
        let hello = Request::Hello { release: RELEASE.to_owned() };
        let peer = match self.exchange(&hello) {
            Ok(Response::Hello { release, abilities }) => Peer { release: Some(release), abilities },
            // One of before there was a hello takes it for nonsense.
            Ok(_) => Peer { release: None, abilities: Request::FIRST_ABILITIES.map(str::to_owned).to_vec() },
            Err(error) => return Err(self.error(format!("its shim broke off: {error}"))),
        };
        Ok(self.peer.insert(peer).clone())
    }

    fn ask_peer(&mut self, request: &Request) -> Result<Response> {
        match self.exchange(request) {
            Ok(Response::Error { kind: Refusal::NoInit, .. }) => {
                Err(Error::NoInit { name: self.name.clone() })
            }
            Ok(Response::Error { message, .. }) => Err(self.error(message)),
            Ok(response) => Ok(response),
            Err(error) => Err(self.error(format!("its shim broke off: {error}"))),
        }
    }

    /// As [`Client::ask`], for the requests that are answered when the VM has ended.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_for_end(&mut self, request: &Request) -> Result<End> {
        match self.ask(request)? {
            Response::Ended { end } => Ok(end),
            other => Err(self.error(format!("its shim gave an answer to another question: {other:?}"))),
        }
    }

    fn error(&self, reason: String) -> Error {
        Error::Shim { name: self.name.clone(), reason }
    }

    fn exchange(&mut self, request: &Request) -> std::io::Result<Response> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut answer = String::new();
        if self.stream.by_ref().take(MAX_ANSWER).read_line(&mut answer)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use hypeman_record::state::State;

    use super::*;

    /// A shim that answers line by line what it is told to.
    fn shim(directory: &Path, answers: Vec<String>) {
        let listener = UnixListener::bind(directory.join(names::SHIM_SOCKET)).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            for answer in answers {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                writeln!(stream.get_mut(), "{answer}").unwrap();
            }
        });
    }

    #[test]
    fn a_shim_of_before_there_was_a_hello_is_managed_as_one_of_today() {
        let scratch = tempfile::tempdir().unwrap();
        let text = include_str!("../../record/testdata/before-formats/conversation.jsonl");
        let said: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let answer =
            |op: &str| said.iter().find(|said| said["request"]["op"] == op).unwrap()["response"].to_string();
        shim(scratch.path(), ["hello", "state", "signal", "stop"].map(answer).to_vec());
        let mut client = Client::connect("old", scratch.path()).unwrap();
        assert_eq!(client.ask(&Request::State).unwrap(), Response::State { state: State::Initializing });
        assert_eq!(client.peer().unwrap().release, None);
        assert_eq!(client.ask(&Request::Signal { signal: 0 }).unwrap(), Response::Done);
        assert_eq!(client.ask_for_end(&Request::Stop { timeout_ms: 20_000 }).unwrap().exit_code, 143);
    }

    #[test]
    fn what_a_shim_cannot_do_is_not_asked_of_it() {
        let scratch = tempfile::tempdir().unwrap();
        let hello = Response::Hello { release: "0.0.9".to_owned(), abilities: vec!["state".to_owned()] };
        shim(scratch.path(), vec![serde_json::to_string(&hello).unwrap()]);
        let mut client = Client::connect("small", scratch.path()).unwrap();
        let error = client.ask(&Request::Wait).unwrap_err().to_string();
        assert!(error.contains("small") && error.contains("0.0.9") && error.contains("wait"), "{error}");
    }
}
