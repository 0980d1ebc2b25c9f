//! A guest whose agent can be asked.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use hypeman_agent::frames;
use hypeman_agent::protocol::{Found, Processes, Request};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::background::in_background;
use crate::error::{Error, Result, What};

/// Timeout for an answer that takes an agent no work. Guests that flood their consoles on a slow
/// host have taken seconds.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to the agent of a guest, for one exchange. May block: it waits for a guest that boots.
pub type Dial = Arc<dyn Fn() -> Result<StdStream> + Send + Sync>;

/// A guest, by its agent.
#[derive(Clone)]
pub struct Guest {
    /// The instance's name, for errors.
    pub(crate) name: String,
    dial: Dial,
}

impl Guest {
    /// Makes the guest of the instance `name`, to which `dial` connects.
    #[must_use]
    pub fn new(name: &str, dial: Dial) -> Guest {
        Guest { name: name.to_owned(), dial }
    }

    /// Connects, for one exchange.
    ///
    /// # Errors
    /// When the instance does not run, or its guest has no agent.
    pub async fn connect(&self) -> Result<UnixStream> {
        let dial = self.dial.clone();
        let stream = in_background(move || dial()).await.map_err(std::io::Error::other).what("connect")??;
        stream.set_nonblocking(true)?;
        Ok(UnixStream::from_std(stream)?)
    }

    /// Describes the file at a path in the guest; a link at its end is followed if `follow`.
    ///
    /// # Errors
    /// As [`Guest::connect`], and when the connection breaks or nothing is answered in time. A path
    /// that cannot be looked at is told in the answer.
    pub async fn stat(&self, path: &str, follow: bool) -> Result<Found> {
        self.ask(&Request::Stat { path: path.to_owned(), follow }).await
    }

    /// Lists the processes of the guest.
    ///
    /// # Errors
    /// As [`Guest::stat`].
    pub async fn top(&self) -> Result<Processes> {
        self.ask(&Request::Top).await
    }

    /// Sends a request that is answered by one message.
    async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let mut stream = self.connect().await?;
        frames::write_message(&mut stream, request).await?;
        in_time(frames::read_message(&mut stream)).await
    }
}

/// Waits for an answer, for a time.
pub(crate) async fn in_time<T>(answer: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    let answer = timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| Error::NoAnswer)?;
    answer.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => Error::Unexpected(error.to_string()),
        _ => error.into(),
    })
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Guest").finish_non_exhaustive()
    }
}

impl Error {
    /// Error of the dialer.
    pub fn dial(error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Dial(Box::new(error))
    }
}
