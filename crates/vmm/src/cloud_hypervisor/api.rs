//! The HTTP API (`vmm/src/api/http/`): a request, an answer, or a list of causes.
//!
//! A small client on hyper instead of the crate `cloud-hypervisor-client`: that is generated from
//! one release's OpenAPI description and so knows one release's fields, and we use eight requests
//! on releases from v38 to v53. One connection a request: nothing has to be kept or noticed to have
//! broken between two of them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hypeman_files::with_causes;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::carrier::Carrier;
use crate::error::{Error, Result};

/// Maximum time for one request. Booting maps and, with huge pages, fills the guest's memory.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum length of an answer in bytes; `vm.info` of a VM with many devices has some 100 KiB.
const MAX_ANSWER: usize = 4 << 20;

/// The API of one VMM.
#[derive(Debug)]
pub(crate) struct Api {
    /// Its socket.
    pub(crate) socket: PathBuf,
}

impl Api {
    /// Asks for something to be done.
    pub(crate) async fn put(&self, request: &str) -> Result<()> {
        self.exchange(Method::PUT, request, Bytes::new(), None).await.map(drop)
    }

    /// Asks for something to be done as `body` says.
    pub(crate) async fn put_json(&self, request: &str, body: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::Api { request: request.to_owned(), message: error.to_string() })?;
        self.exchange(Method::PUT, request, body.into(), None).await.map(drop)
    }

    /// As [`Api::put_json`], with a descriptor beside it (SCM_RIGHTS, unix(7)).
    pub(crate) async fn put_with_descriptor(
        &self,
        request: &str,
        body: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let failed = |error: String| Error::Api { request: request.to_owned(), message: error };
        let body = serde_json::to_vec(body).map_err(|error| failed(error.to_string()))?;
        let descriptor = descriptor.map(|descriptor| descriptor.try_clone_to_owned()).transpose();
        let descriptor = descriptor.map_err(|error| failed(error.to_string()))?;
        self.exchange(Method::PUT, request, body.into(), descriptor).await.map(drop)
    }

    /// Asks for something to be told.
    pub(crate) async fn get_json<T: DeserializeOwned>(&self, request: &str) -> Result<T> {
        let answer = self.exchange(Method::GET, request, Bytes::new(), None).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Api { request: request.to_owned(), message: error.to_string() })
    }

    async fn exchange(
        &self,
        method: Method,
        request: &str,
        body: Bytes,
        descriptor: Option<OwnedFd>,
    ) -> Result<Bytes> {
        match tokio::time::timeout(TIMEOUT, self.try_exchange(method, request, body, descriptor)).await {
            Ok(Ok((status, answer))) if status.is_success() => Ok(answer),
            Ok(Ok((status, answer))) => {
                Err(Error::Api { request: request.to_owned(), message: causes(status, &answer) })
            }
            Ok(Err(error)) => {
                Err(Error::BrokenOff { request: request.to_owned(), message: with_causes(&*error) })
            }
            Err(_) => Err(Error::Api {
                request: request.to_owned(),
                message: format!("no answer in {} s", TIMEOUT.as_secs()),
            }),
        }
    }

    async fn try_exchange(
        &self,
        method: Method,
        request: &str,
        body: Bytes,
        descriptor: Option<OwnedFd>,
    ) -> std::result::Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(Carrier { stream, descriptor })).await?;
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{request}"))
            .header(HOST, "localhost")
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await?;
            Ok((status, answer.to_bytes()))
        };
        // The connection ends when the exchange lets go of its sender. Its error is the exchange's
        // as well.
        tokio::join!(exchange, connection).0
    }
}

/// Returns the VMM's reasons for a failure: a JSON array of causes, the outermost first
/// (`error_response` in `vmm/src/api/http/mod.rs`), or in older releases a text.
fn causes(status: StatusCode, answer: &[u8]) -> String {
    let text = || String::from_utf8_lossy(answer).trim().to_owned();
    let causes =
        serde_json::from_slice::<Vec<String>>(answer).map_or_else(|_| text(), |list| list.join(": "));
    if causes.is_empty() { status.to_string() } else { causes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_causes_are_shown_and_a_plain_text_as_it_is() {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(
            causes(status, br#"["Error from API","The VM could not boot"]"#),
            "Error from API: The VM could not boot"
        );
        assert_eq!(causes(status, b"no such thing\n"), "no such thing");
        assert_eq!(causes(status, b""), "500 Internal Server Error");
    }
}
