//! The HTTP API on its unix socket (`vmm/src/api/http/mod.rs`): 200 with a body, 204 without, and
//! errors as an array of causes. A request whose client has gone is carried out all the same, and
//! its connection closed after that.

use std::cell::Cell;
use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::receiver::{Received, Receiver};
use crate::vm::Vmm;

/// Header by which a test asks for its request to be carried out so many milliseconds late, as on a
/// busy host.
const LATE: &str = "x-late";

/// Answers until the process ends.
pub(crate) fn serve(listener: UnixListener, vmm: Vmm) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let vmm = vmm.clone();
            tokio::task::spawn_local(async move {
                let last = Cell::new(false);
                let received = Received::default();
                let stream = Receiver { stream, received: received.clone() };
                let service = service_fn(async |request: Request<Incoming>| {
                    last.set(request.uri().path().ends_with("/vmm.shutdown"));
                    answer(&vmm, request, &received).await
                });
                let _ = http1::Builder::new()
                    .half_close(true)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if last.get() {
                    std::process::exit(0);
                }
            });
        }
    })
}

async fn answer(
    vmm: &Vmm,
    request: Request<Incoming>,
    received: &Received,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let late = request.headers().get(LATE).and_then(|late| late.to_str().ok()?.parse().ok());
    tokio::time::sleep(Duration::from_millis(late.unwrap_or(0))).await;
    let name = request.uri().path().strip_prefix("/api/v1/").unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (status, body) = match vmm.answer(&name, &body, received.take()) {
        Ok(Some(value)) => (StatusCode::OK, value.to_string()),
        Ok(None) => (StatusCode::NO_CONTENT, String::new()),
        Err(causes) => (StatusCode::INTERNAL_SERVER_ERROR, serde_json::json!(causes).to_string()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}
