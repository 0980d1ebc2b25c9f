//! Many streams over one session, with flow control each: yamux. The host opens them, the agent
//! accepts them.

use std::future::poll_fn;
use std::io::{Error, Result};
use std::task::Poll;

use futures_io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

/// One of the streams.
pub type Stream = Compat<yamux::Stream>;

/// Maximum number of streams, which the caller has to count: one too many ends the session.
/// Each may have 256 KiB of what has come and was not read, so this bounds what the other end makes
/// us keep.
pub const MAX_STREAMS: usize = 128;

/// As many again may be on their way out.
const WITH_CLOSING: usize = 2 * MAX_STREAMS;

/// How much more the windows of all streams may have together than they begin with, for those that
/// bring much.
const WIDER_WINDOWS: usize = 4 << 20;

/// As large as what our frames have, so that one is sent as one.
const SEND_SIZE: usize = crate::link::MAX_PAYLOAD - 64;

/// Asks for a stream of its own.
pub type Opener = oneshot::Sender<Stream>;

fn config() -> Config {
    let mut config = Config::default();
    config.set_max_num_streams(WITH_CLOSING);
    config.set_max_connection_receive_window(Some(
        WITH_CLOSING * yamux::DEFAULT_CREDIT as usize + WIDER_WINDOWS,
    ));
    config.set_split_send_size(SEND_SIZE);
    config
}

/// The host's end of a session: opens a stream for each who asks. Ends with the session, and then
/// requests for streams get no answer; never when there are no more requests.
///
/// # Errors
/// When the session breaks.
pub async fn open(
    link: impl AsyncRead + AsyncWrite + Unpin,
    askers: &mut mpsc::Receiver<Opener>,
) -> Result<()> {
    let mut connection = Connection::new(link, config(), Mode::Client);
    let mut waiting: Option<Opener> = None;
    poll_fn(|cx| {
        loop {
            if waiting.is_none()
                && let Poll::Ready(asker) = askers.poll_recv(cx)
            {
                waiting = asker;
            }
            if waiting.is_some()
                && let Poll::Ready(stream) = connection.poll_new_outbound(cx)
            {
                match (stream, waiting.take()) {
                    // The requester may have gone; then the stream closes.
                    (Ok(stream), Some(asker)) => drop(asker.send(stream.compat())),
                    (Err(error), _) => return Poll::Ready(Err(Error::other(error))),
                    (Ok(_), None) => {}
                }
                continue;
            }
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(_))) => {} // the agent has none to open: closed
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Error::other(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// The agent's end: hands each stream that the host opens to `serve`. Ends with the session.
///
/// # Errors
/// When the session breaks.
pub async fn accept(link: impl AsyncRead + AsyncWrite + Unpin, mut serve: impl FnMut(Stream)) -> Result<()> {
    let mut connection = Connection::new(link, config(), Mode::Server);
    loop {
        match poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            Some(Ok(stream)) => serve(stream.compat()),
            Some(Err(error)) => return Err(Error::other(error)),
            None => return Ok(()),
        }
    }
}
