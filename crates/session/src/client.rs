//! A client of the shim's socket, for questions that are answered at once. It blocks, with a limit
//! in time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hypeman_record::end::End;
use hypeman_record::format::RELEASE;
use hypeman_record::kind::Kind;
use hypeman_record::names;
use hypeman_record::protocol::{self, Refusal, Request, Response};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, Result};

/// Maximum length of an answer in bytes; the shim's are some hundred.
pub(crate) const MAX_ANSWER: u64 = 64 * 1024;

/// Timeout for a shim's answer to a request that needs no waiting.
const ANSWER: Duration = Duration::from_secs(3);

/// Timeout for a request that the shim passes on to a guest, which may have to boot first; longer
/// than shims wait themselves.
const GUEST: Duration = Duration::from_secs(25);

/// Timeout for the end of a VM, beyond the guest's own: a VMM may be writing to a slow disk.
const ENDING: Duration = Duration::from_secs(10);

/// A connection to the shim of one instance.
#[derive(Debug)]
pub struct Client {
    name: String,
    stream: BufReader<UnixStream>,
    /// The shim's release and abilities; known from the first request on.
    peer: Option<Peer>,
}

/// A shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its release; `None` for one of before shims told.
    pub release: Option<String>,
    /// The requests that it knows.
    abilities: Vec<String>,
}

impl Client {
    /// Connects to the shim of the instance `name` in `directory`.
    ///
    /// # Errors
    /// When no shim listens there.
    pub fn connect(name: &str, directory: &Path) -> Result<Client> {
        let stream = connect(directory).map_err(|error| silent(name, &error))?;
        Ok(Client { name: name.to_owned(), stream: BufReader::new(stream), peer: None })
    }

    /// Sends a request, and waits for the answer.
    ///
    /// # Errors
    /// When the shim goes away or refuses.
    pub fn ask(&mut self, request: &Request) -> Result<Response> {
        let peer = self.peer()?;
        if !peer.abilities.iter().any(|ability| *ability == request.ability()) {
            let release = peer.release.unwrap_or_else(|| "of an older release".to_owned());
            let reason = format!("its shim, hypeman {release}, knows no {}", request.ability());
            return Err(self.refused(Kind::Unsupported, reason));
        }
        self.ask_peer(request)
    }

    /// Returns the shim's release and abilities.
    ///
    /// # Errors
    /// When the shim goes away.
    pub fn peer(&mut self) -> Result<Peer> {
        if let Some(peer) = &self.peer {
            return Ok(peer.clone());
        }
        let hello = Request::Hello { release: RELEASE.to_owned() };
        let peer = match self.exchange(&hello, Some(ANSWER)) {
            Ok(Response::Hello { release, abilities }) => Peer { release: Some(release), abilities },
            // One of before there was a hello takes it for nonsense.
            Ok(_) => Peer { release: None, abilities: Request::FIRST_ABILITIES.map(str::to_owned).to_vec() },
            Err(error) => return Err(silent(&self.name, &error)),
        };
        Ok(self.peer.insert(peer).clone())
    }

    fn ask_peer(&mut self, request: &Request) -> Result<Response> {
        match self.exchange(request, limit(request)) {
            Ok(Response::Error { kind: Refusal::NoInit, .. }) => {
                Err(Error::NoInit { name: self.name.clone() })
            }
            Ok(Response::Error { kind, cause, message }) => {
                Err(self.refused(cause.unwrap_or(kind.kind()), message))
            }
            Ok(response) => Ok(response),
            Err(error) => Err(silent(&self.name, &error)),
        }
    }

    /// As [`Client::ask`], for the requests that are answered when the VM has ended.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_for_end(&mut self, request: &Request) -> Result<Outcome> {
        match self.ask(request)? {
            Response::Ended { end, unwritten } => Ok(Outcome { end, unwritten }),
            other => Err(self.wrong_answer(&other)),
        }
    }

    /// Asks for the guest's keyboard: bytes written to the stream are typed.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn attach(self) -> Result<UnixStream> {
        self.become_stream(&Request::Attach)
    }

    /// Asks for the states of the VM from now on, which [`crate::events::Events`] reads.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn watch(mut self) -> Result<Watched> {
        let peer = self.peer()?;
        let tells = peer.abilities.iter().any(|ability| *ability == Request::Watch.ability());
        if tells {
            self.send(&Request::Watch).map_err(|error| silent(&self.name, &error))?;
        }
        Ok(Watched { stream: self.into_stream()?, release: peer.release, tells })
    }

    /// Asks for a stream to the guest's agent.
    ///
    /// # Errors
    /// As [`Client::ask`]; and when there is no agent, or it does not come.
    pub fn agent(self) -> Result<UnixStream> {
        self.become_stream(&Request::Agent)
    }

    /// Asks for what the connection itself is for from then on.
    fn become_stream(mut self, request: &Request) -> Result<UnixStream> {
        match self.ask(request)? {
            Response::Done => {}
            other => return Err(self.wrong_answer(&other)),
        }
        self.into_stream()
    }

    fn into_stream(self) -> Result<UnixStream> {
        let stream = self.stream.into_inner();
        let unlimited = stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None));
        unlimited.map_err(|error| silent(&self.name, &error))?;
        Ok(stream)
    }

    /// Makes the error for an answer to another question.
    #[must_use]
    pub fn wrong_answer(&self, answer: &Response) -> Error {
        self.refused(Kind::Internal, format!("unexpected response from its shim: {answer:?}"))
    }

    fn refused(&self, kind: Kind, reason: String) -> Error {
        Error::Refused { name: self.name.clone(), kind, reason }
    }

    fn exchange(&mut self, request: &Request, limit: Option<Duration>) -> std::io::Result<Response> {
        self.stream.get_ref().set_read_timeout(limit)?;
        self.send(request)?;
        let mut answer = String::new();
        if self.stream.by_ref().take(MAX_ANSWER).read_line(&mut answer)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }

    fn send(&mut self, request: &Request) -> std::io::Result<()> {
        self.stream.get_mut().write_all(&protocol::line(request)?)
    }
}

/// A connection on which a shim tells the states of its VM.
#[derive(Debug)]
pub struct Watched {
    pub(crate) stream: UnixStream,
    /// The shim's release.
    pub(crate) release: Option<String>,
    /// Whether it tells by itself; one of an older release has to be asked.
    pub(crate) tells: bool,
}

/// End of a VM that a client asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The end.
    pub end: End,
    /// Whether output still waits to be written, because the disk is full or slow.
    pub unwritten: bool,
}

/// Timeout for a request; `None` for one that may last as long as the VM.
fn limit(request: &Request) -> Option<Duration> {
    match request {
        Request::Hello { .. }
        | Request::State
        | Request::PowerButton
        | Request::Pause
        | Request::Resume
        | Request::HandOver
        | Request::Attach => Some(ANSWER),
        Request::Stop { timeout_ms } => Duration::from_millis(*timeout_ms).checked_add(ENDING),
        Request::Kill | Request::Discard => Some(ENDING),
        Request::Signal { .. } => Some(GUEST),
        // Its memory may be large, and the disk slow; its guest may have to boot.
        Request::Watch | Request::Wait | Request::Standby | Request::Agent => None,
    }
}

/// Connects to the socket in `directory`, whose path may be longer than the 108 bytes that a
/// socket's has (unix(7)). A shim that does not run lets its backlog fill; then it is not waited
/// for either.
fn connect(directory: &Path) -> std::io::Result<UnixStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(ANSWER))?; // it limits connect(2) as well (socket(7), SO_SNDTIMEO)
    let (_directory, path) = short_path(directory, names::SHIM_SOCKET)?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(stream)
}

fn silent(name: &str, error: &std::io::Error) -> Error {
    use std::io::ErrorKind;
    let (hung_up, reason) = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => (false, "timed out".to_owned()),
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionRefused
        | ErrorKind::NotFound // its socket is being made anew
        | ErrorKind::BrokenPipe => (true, "it closed the connection".to_owned()),
        _ => (false, error.to_string()),
    };
    Error::Silent { name: name.to_owned(), reason, hung_up }
}

/// Returns a path of a socket in `directory` that fits into the 108 bytes of a socket's path
/// (unix(7)), as long as the handle lives.
///
/// # Errors
/// When the directory cannot be opened.
pub fn short_path(directory: &Path, socket: &str) -> std::io::Result<(File, String)> {
    let handle = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{socket}", handle.as_raw_fd());
    Ok((handle, path))
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
        assert_eq!(
            client.ask(&Request::State).unwrap(),
            Response::State { state: State::Initializing, reason: None, health: None, console: None }
        );
        assert_eq!(client.peer().unwrap().release, None);
        assert_eq!(client.ask(&Request::Signal { signal: 0 }).unwrap(), Response::Done);
        assert_eq!(client.ask_for_end(&Request::Stop { timeout_ms: 20_000 }).unwrap().end.exit_code, 143);
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
