//! A registry over HTTP
//! (<https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md>), of which nothing is
//! believed: what it sends is read up to a limit, in time, and credentials go to nobody but it and
//! whom it names for that.
//!
//! Not by the crate `oci-client`: that reads documents, tokens and errors without any limit.

mod login;
mod pace;

use std::cell::RefCell;
use std::time::Duration;

use hypeman_files::with_causes;
use hypeman_record::kind::Kind;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};

pub use login::Login;
pub(crate) use pace::Pace;

use crate::error::Error;
use crate::limits::{MOST_ANSWER, MOST_MANIFEST};
use crate::reference::Reference;

/// How long a registry may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// Most redirects to the place where something lies.
const MOST_REDIRECTS: usize = 5;

/// Longest wait that a registry may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The documents that can be a manifest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// Why something was not fetched.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It wants other credentials.
    Unauthorized,
    /// It has no such thing.
    NotFound,
    /// Another answer than the thing: its code, its words, and how long it wants to be left alone.
    Answer { code: u16, message: String, wait: Option<Duration> },
    /// It cannot be reached.
    Unreachable(String),
    /// The connection broke.
    BrokenOff(String),
    /// It sends, but hardly anything.
    TooSlow,
    /// It sends what nobody should take.
    Refused(String),
    /// Nothing of the registry's.
    Own(Error),
}

impl Failed {
    /// Whether it may be gone the next time: a registry that is busy or limits its rate, or a
    /// connection that broke. One that cannot be made at all is most often a wrong address.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Failed::Answer { code, .. } => matches!(code, 408 | 429 | 500 | 502 | 503 | 504),
            Failed::BrokenOff(_) | Failed::TooSlow => true,
            _ => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Failed::Answer { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Failed::NotFound => Kind::NotFound,
            Failed::Answer { code: 429, .. } => Kind::RateLimited,
            _ => Kind::Remote,
        }
    }

    /// In words.
    pub(crate) fn explain(&self, registry: &str) -> String {
        match self {
            Failed::Unauthorized => {
                format!("{registry} wants other credentials; log in with `docker login {registry}`")
            }
            Failed::NotFound => format!("{registry} has no such image; look at its name and tag"),
            Failed::Answer { code, message, .. } => format!("{registry} answers {code}: {message}"),
            Failed::Unreachable(why) => format!("{registry} cannot be reached: {why}"),
            Failed::BrokenOff(why) => format!("{registry} broke off: {why}"),
            Failed::TooSlow => format!("{registry} sends less than {} bytes in a minute", pace::LEAST),
            Failed::Refused(why) => format!("{registry}: {why}"),
            Failed::Own(error) => error.to_string(),
        }
    }
}

impl From<reqwest::Error> for Failed {
    fn from(error: reqwest::Error) -> Failed {
        let words = with_causes(&error);
        match () {
            () if error.is_connect() => Failed::Unreachable(reason(&error)),
            () if error.is_redirect() || error.is_builder() => Failed::Refused(words),
            () => Failed::BrokenOff(words),
        }
    }
}

/// Why no connection was made, in a few words: the innermost cause, which for DNS is a dump of the
/// question.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        if cause.to_string().starts_with("dns error") {
            return "DNS knows no such name, or does not answer".to_owned();
        }
        cause = next;
    }
    cause.to_string()
}

/// One repository of a registry.
pub(crate) struct Registry {
    http: Client,
    base: Url,
    repository: String,
    login: Login,
    authorization: RefCell<Option<HeaderValue>>,
    pace: Pace,
}

impl Registry {
    /// The one that a reference names.
    pub(crate) fn new(reference: &Reference, login: Login, pace: Pace) -> Result<Registry, Failed> {
        let host = reference.host();
        // As docker: a registry on this very machine may do without TLS.
        let is_local = is_loopback(host);
        let scheme = if is_local { "http" } else { "https" };
        let base =
            Url::parse(&format!("{scheme}://{host}/")).map_err(|error| Failed::Refused(error.to_string()))?;
        // And it is asked without a proxy (Go's http.ProxyFromEnvironment): what goes to it, a
        // password too, is not encrypted.
        let builder = if is_local { Client::builder().no_proxy() } else { Client::builder() };
        let http = builder
            .user_agent(concat!("hypeman/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(SILENCE / 4)
            .read_timeout(SILENCE)
            .redirect(Policy::custom(redirect))
            .build()?;
        let repository = reference.repository().to_owned();
        let authorization = RefCell::new(login.bearer());
        Ok(Registry { http, base, repository, login, authorization, pace })
    }

    /// A manifest or an index, by tag or digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Vec<u8>, Failed> {
        let response = self.get(&format!("manifests/{name}"), Some(MANIFESTS), 0).await?;
        self.read(response, "its manifest", MOST_MANIFEST).await
    }

    /// A small blob of so many bytes.
    pub(crate) async fn document(&self, digest: &str, size: u64) -> Result<Vec<u8>, Failed> {
        let response = self.get(&format!("blobs/{digest}"), None, 0).await?;
        self.read(response, "its configuration", size).await
    }

    /// A blob from byte `from` on, if the registry can do that; where it begins is told.
    pub(crate) async fn blob(&self, digest: &str, from: u64) -> Result<(Response, u64), Failed> {
        let response = self.get(&format!("blobs/{digest}"), None, from).await?;
        let begin = if response.status() == StatusCode::PARTIAL_CONTENT { from } else { 0 };
        Ok((response, begin))
    }

    /// The next piece of an answer; `None` at its end.
    pub(crate) async fn chunk(
        &self,
        response: &mut Response,
        pace: &mut Pace,
    ) -> Result<Option<bytes::Bytes>, Failed> {
        let chunk = pace.limit(response.chunk()).await.ok_or(Failed::TooSlow)??;
        if let Some(chunk) = &chunk {
            pace.advance(chunk.len()).ok_or(Failed::TooSlow)?;
        }
        Ok(chunk)
    }

    /// How slow it may be.
    pub(crate) fn pace(&self) -> Pace {
        self.pace.begin()
    }

    /// All of an answer.
    async fn read(&self, mut response: Response, what: &str, most: u64) -> Result<Vec<u8>, Failed> {
        let mut pace = self.pace();
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, &mut pace).await? {
            if (bytes.len() + chunk.len()) as u64 > most {
                return Err(Failed::Refused(format!("{what} has more than the allowed {most} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Asks for something of the repository's; logs in when that is asked for.
    async fn get(&self, path: &str, accept: Option<&'static str>, from: u64) -> Result<Response, Failed> {
        let url = self.base.join(&format!("v2/{}/{path}", self.repository));
        let url = url.map_err(|error| Failed::Refused(error.to_string()))?;
        let ask = || {
            let mut request = self.http.get(url.clone());
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(authorization) = &*self.authorization.borrow() {
                request = request.header(AUTHORIZATION, authorization);
            }
            request.send()
        };
        let mut response = ask().await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenges: Vec<_> =
                challenges.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
            let authorization = self.login(&challenges).await?;
            self.authorization.replace(Some(authorization));
            response = ask().await?;
        }
        self.checked(response).await
    }

    /// An answer that is the thing; else why not.
    async fn checked(&self, response: Response) -> Result<Response, Failed> {
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failed::Unauthorized),
            StatusCode::NOT_FOUND => Err(Failed::NotFound),
            status => {
                let wait =
                    response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                let wait = wait.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
                // The rest of its answer is not worth an error.
                let body = self.read(response, "its answer", MOST_ANSWER).await.unwrap_or_default();
                let message = String::from_utf8_lossy(&body).trim().chars().take(200).collect();
                Err(Failed::Answer { code: status.as_u16(), message, wait })
            }
        }
    }
}

/// Follows a redirect, but not from a place that is proved to one that is not.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MOST_REDIRECTS {
        attempt.error("too many redirects")
    } else if is_secure && attempt.url().scheme() != "https" {
        attempt.error("a redirect away from TLS")
    } else {
        attempt.follow()
    }
}

/// Whether a host is this very machine.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
