//! The states of a VM, as its shim tells them.

use std::time::Duration;

use hypeman_record::protocol::{self, Request, Response, Seen};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::client::{MAX_ANSWER, Watched};

/// Interval for polling a shim whose release sends no states.
const ASK: Duration = Duration::from_millis(100);

/// States of a VM, as its shim sends them. As long as this lives, an instance that removes itself
/// stays.
#[derive(Debug)]
pub struct Events {
    stream: BufReader<UnixStream>,
    /// Part of a message.
    line: Vec<u8>,
    /// The shim's release, if it tells.
    pub release: Option<String>,
    tells: bool,
    /// Last state of a shim that is polled.
    last: Option<Seen>,
    /// Whether such a shim owes an answer.
    is_asked: bool,
}

impl Events {
    /// Reads a connection from [`crate::client::Client::watch`].
    ///
    /// # Errors
    /// When the connection cannot be used.
    pub fn of(watched: Watched) -> std::io::Result<Events> {
        watched.stream.set_nonblocking(true)?;
        let stream = BufReader::new(UnixStream::from_std(watched.stream)?);
        Ok(Events {
            stream,
            line: Vec::new(),
            release: watched.release,
            tells: watched.tells,
            last: None,
            is_asked: false,
        })
    }

    /// Returns the state, and from the second call on the next one; `None` at the end. May be
    /// dropped in between.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> std::io::Result<Option<Seen>> {
        if self.tells {
            return Ok(match self.read().await? {
                Some(Response::Seen(seen)) => Some(seen),
                _ => None,
            });
        }
        loop {
            if !self.is_asked {
                if self.last.is_some() {
                    sleep(ASK).await;
                }
                self.is_asked = true;
                self.stream.get_mut().write_all(&protocol::line(&Request::State)?).await?;
            }
            let answer = self.read().await?;
            self.is_asked = false;
            let Some(Response::State { state, reason, health, .. }) = answer else { return Ok(None) };
            let seen = Seen { generation: 0, state, reason, health, end: None };
            if let Some(next) = seen.after(self.last.as_ref()) {
                return Ok(Some(self.last.insert(next).clone()));
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<Option<Response>> {
        let most = MAX_ANSWER.saturating_sub(self.line.len() as u64);
        // Bytes that were read stay in the line when this future is dropped.
        let count = (&mut self.stream).take(most).read_until(b'\n', &mut self.line).await?;
        if count == 0 || !self.line.ends_with(b"\n") {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        Ok(serde_json::from_slice(&line).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use hypeman_record::names;
    use hypeman_record::state::State;

    use super::*;
    use crate::client::Client;

    #[tokio::test]
    async fn a_shim_that_does_not_tell_by_itself_is_asked() {
        let scratch = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(scratch.path().join(names::SHIM_SOCKET)).unwrap();
        let said = |state| {
            let answer = Response::State { state, reason: None, health: None, console: None };
            serde_json::to_string(&answer).unwrap()
        };
        let abilities = vec!["state".to_owned()];
        let hello =
            serde_json::to_string(&Response::Hello { release: "0.0.9".to_owned(), abilities }).unwrap();
        let answers = [hello, said(State::Initializing), said(State::Initializing), said(State::Running)];
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            for answer in answers {
                stream.read_line(&mut String::new()).unwrap();
                writeln!(stream.get_mut(), "{answer}").unwrap();
            }
        });
        let mut events =
            Events::of(Client::connect("old", scratch.path()).unwrap().watch().unwrap()).unwrap();
        let mut states = Vec::new();
        while let Ok(Some(seen)) = events.next().await {
            states.push(seen);
        }
        assert_eq!(
            states.iter().map(|seen| seen.state).collect::<Vec<_>>(),
            [State::Initializing, State::Running]
        );
        assert!(states[0].generation < states[1].generation, "{states:?}");
    }
}
