//! A client of the shim's socket.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::end::End;
use crate::error::{Error, Result};
use crate::layout::names;
use crate::protocol::{Request, Response};

/// Longest answer in bytes; the shim's are some hundred.
const MAX_ANSWER: u64 = 64 * 1024;

/// A connection to the shim of one instance.
#[derive(Debug)]
pub struct Client {
    name: String,
    stream: BufReader<UnixStream>,
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
        Ok(Client { name: name.to_owned(), stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the shim goes away or refuses.
    pub fn ask(&mut self, request: &Request) -> Result<Response> {
        match self.exchange(request) {
            Ok(Response::Error { message }) => Err(self.error(message)),
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
