//! Connections: accepted up to a number, and each with limits in time and size.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen::Listener;

/// Timeout for the head of a request, and for the next request on a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest head of a request in bytes, and most headers.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

/// Descriptors that are not for connections: each has one, and what it asks for may need more.
const DESCRIPTORS_PER_CONNECTION: usize = 4;

/// How long bytes that a client does not take may wait, before its connection counts as broken.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);

/// Pause after a connection could not be accepted, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Number of connections that this process can have.
fn most() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX >> 4, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
        / DESCRIPTORS_PER_CONNECTION
}

/// Connections of a server.
#[derive(Clone)]
pub(crate) struct Connections {
    app: Router,
    room: Arc<Semaphore>,
    /// Those that are served.
    served: TaskTracker,
    stopping: CancellationToken,
}

impl Connections {
    pub(crate) fn new(app: Router, stopping: CancellationToken) -> Connections {
        let room = Arc::new(Semaphore::new(most()));
        Connections { app, room, served: TaskTracker::new(), stopping }
    }

    /// Accepts connections until the server stops.
    pub(crate) async fn accept(self, listener: Listener) {
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                accepted = self.accept_one(&listener) => if let Err(error) = accepted {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until all connections have ended. When the server stops, each ends with its request.
    pub(crate) async fn end(self) {
        self.served.close();
        self.served.wait().await;
    }

    async fn accept_one(&self, listener: &Listener) -> std::io::Result<()> {
        // Those beyond wait in the backlog.
        let permit = self.room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        match listener {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                rustix::net::sockopt::set_tcp_user_timeout(&stream, SEND_TIMEOUT.as_millis() as u32)?;
                self.served.spawn(self.clone().serve(stream, permit));
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                self.served.spawn(self.clone().serve(stream, permit));
            }
        }
        Ok(())
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        _: OwnedSemaphorePermit,
    ) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.app))
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a connection ended: {error}");
        }
    }
}
