//! Both ends of the channel with any bytes from the other one, for the fuzzer. Everything that is
//! read is read here, by the code that reads it in a VM.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};

use crate::link::Link;
use hypeman_record::guest::health::MAX_HEALTH_OUTPUT;

use crate::protocol::{Copied, Found, Order, Processes, Ran, Report, Request, Say};
use crate::{frames, mux};

/// A channel over which these bytes come, and nothing more; what goes out is lost.
struct Channel<'a>(&'a [u8]);

impl AsyncRead for Channel<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let count = self.0.len().min(buffer.remaining());
        let (now, later) = self.0.split_at(count);
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Channel<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn block_on(work: impl Future<Output = ()>) {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
        runtime.block_on(work);
    }
}

/// The host's end, which a hostile guest says these bytes to: as they are, as the frames of a
/// session, and as what is on a stream of it.
pub fn from_guest(bytes: &[u8]) {
    block_on(async {
        let _ = Link::new(Channel(bytes)).begin().await;
        let framed = Link::<()>::framed(bytes);
        let mut link = Link::in_session(Channel(&framed));
        let (askers, mut asked) = mpsc::channel(1);
        let (asker, opened) = oneshot::channel();
        let _ = askers.send(asker).await;
        let client = async {
            if let Ok(mut stream) = opened.await {
                let _ = frames::write_message(&mut stream, &Request::Top).await;
                read_all(&mut stream, understand_guest).await;
            }
        };
        let _ = tokio::join!(mux::open(&mut link, &mut asked), client);
        let mut stream = bytes;
        read_all(&mut stream, understand_guest).await;
    });
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin), understand: fn(&frames::Frame)) {
    while let Ok(Some(frame)) = frames::read(stream).await {
        understand(&frame);
    }
}

fn understand_guest(frame: &frames::Frame) {
    let _ = frame.message::<Ran>();
    let _ = frame.message::<Copied>();
    let _ = frame.message::<Found>();
    let _ = frame.message::<Processes>();
    if let Ok(Report::Health(health)) = frame.message() {
        assert!(health.bounded().output.len() <= MAX_HEALTH_OUTPUT, "more is kept than docker keeps");
    }
}

/// The agent's end, which a host says these bytes to.
pub fn from_host(bytes: &[u8]) {
    block_on(async {
        let mut link = Link::new(Channel(bytes));
        while link.accept().await.is_ok() {
            let _ = mux::accept(&mut link, drop).await;
        }
        let framed = Link::<()>::framed(bytes);
        let mut link = Link::in_session(Channel(&framed));
        let mut streams = Vec::new();
        let _ = mux::accept(&mut link, |stream| streams.push(stream)).await;
        for mut stream in streams {
            read_all(&mut stream, understand_host).await;
        }
        let mut stream = bytes;
        read_all(&mut stream, understand_host).await;
    });
}

fn understand_host(frame: &frames::Frame) {
    let _ = frame.message::<Request>();
    let _ = frame.message::<Say>();
    let _ = frame.message::<Order>();
}
