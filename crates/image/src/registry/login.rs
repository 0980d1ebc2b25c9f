//! Logging in, as docker does (<https://distribution.github.io/distribution/spec/auth/token/>).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use http_auth::parser::ChallengeParser;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;

use super::{Failed, Registry, is_loopback};
use crate::limits::MOST_ANSWER;

/// Credentials of the user.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// None.
    Anonymous,
    /// A password.
    Password {
        /// Name of the user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that the registry takes as it is.
    Token(String),
}

/// Shows no secret.
impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Login::Anonymous => "Anonymous",
            Login::Password { .. } => "Password(***)",
            Login::Token(_) => "Token(***)",
        })
    }
}

impl Login {
    /// Returns the credentials that docker would use.
    pub(crate) fn of_docker(registry: &str) -> Result<Login, String> {
        // docker keeps those of Docker Hub under the address of its first version.
        let server = if registry == "index.docker.io" { "https://index.docker.io/v1/" } else { registry };
        match docker_credential::get_credential(server) {
            Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Login::Password { user, password }),
            Ok(DockerCredential::IdentityToken(token)) => Ok(Login::Token(token)),
            Err(
                CredentialRetrievalError::ConfigNotFound
                | CredentialRetrievalError::ConfigReadError
                | CredentialRetrievalError::NoCredentialConfigured,
            ) => Ok(Login::Anonymous),
            // A helper that has nothing for this registry (`credentials not found in native
            // keychain`, docker-credential-helpers).
            Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
                if stdout.contains("not found") || stderr.contains("not found") =>
            {
                Ok(Login::Anonymous)
            }
            Err(error) => Err(format!("docker's credentials for {registry} cannot be read: {error}")),
        }
    }

    /// A token that the registry takes as it is.
    pub(super) fn bearer(&self) -> Option<HeaderValue> {
        match self {
            Login::Token(token) => secret(&format!("Bearer {token}")),
            _ => None,
        }
    }

    /// User and password, for the header.
    fn basic(&self) -> Option<HeaderValue> {
        match self {
            Login::Password { user, password } => {
                secret(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            _ => None,
        }
    }
}

/// A header that is not to be shown, and that no redirect to another host gets.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Token server and its parameters.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// An answer with a token.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Credentials that the registry wants, after it has offered these ways to log in.
    pub(super) async fn login(&self, challenges: &[String]) -> Result<HeaderValue, Failed> {
        match choose(challenges) {
            Some(Challenge::Basic) => self.login.basic().ok_or(Failed::Unauthorized),
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref()).await,
            None => Err(Failed::Unauthorized),
        }
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, Failed> {
        let mut url =
            Url::parse(realm).map_err(|error| Failed::Refused(format!("its realm {realm:?}: {error}")))?;
        let scope = format!("repository:{}:pull", self.repository);
        url.query_pairs_mut()
            .append_pair("scope", &scope)
            .extend_pairs(service.map(|service| ("service", service)));
        let mut request = self.http.get(url.clone());
        if let Some(basic) = self.login.basic() {
            if !is_trusted(&self.base, &url) {
                let reason = format!(
                    "it wants your password sent to {}, which is not proved to be anybody",
                    url.host_str().unwrap_or("nowhere")
                );
                return Err(Failed::Refused(reason));
            }
            request = request.header(AUTHORIZATION, basic);
        }
        let response = self.checked(request.send().await?).await?;
        let text = self.read(response, "its token", MOST_ANSWER).await?;
        let no_token = || Failed::Refused("its answer has no token in it".to_owned());
        let token: Token = serde_json::from_slice(&text).map_err(|_| no_token())?;
        let token = token.token.or(token.access_token).ok_or_else(no_token)?;
        secret(&format!("Bearer {token}")).ok_or_else(no_token)
    }
}

/// Whether a password may be sent to `url`, as the registry at `base` asks: over TLS, or to the
/// machine that the registry is on already.
fn is_trusted(base: &Url, url: &Url) -> bool {
    url.scheme() == "https" || base.scheme() == "http" && url.host_str().is_some_and(is_loopback)
}

/// The best challenge that we can answer: Bearer, wherever it stands among others, as containerd
/// has it.
fn choose(texts: &[String]) -> Option<Challenge> {
    let all: Vec<Challenge> = texts.iter().flat_map(|text| parse(text)).collect();
    let is_bearer = |challenge: &Challenge| matches!(challenge, Challenge::Bearer { .. });
    let best = all.iter().position(is_bearer).unwrap_or(0);
    all.into_iter().nth(best)
}

/// The challenges of a header that we can answer (RFC 9110, 11.6.1).
fn parse(text: &str) -> Vec<Challenge> {
    let challenges = ChallengeParser::new(text).map_while(Result::ok);
    let known = challenges.into_iter().filter_map(|challenge| {
        let value = |name: &str| {
            let (_, value) = challenge.params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
            Some(value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("bearer") {
            return Some(Challenge::Bearer { realm: value("realm")?, service: value("service") });
        }
        challenge.scheme.eq_ignore_ascii_case("basic").then_some(Challenge::Basic)
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let choose =
            |texts: &[&str]| choose(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let bearer = r#"Bearer realm="https://auth.example/token",service="registry.example""#;
        let service = Some("registry.example".to_owned());
        let expected = Some(Challenge::Bearer { realm: "https://auth.example/token".to_owned(), service });
        let (basic, both) = (r#"Basic realm="x""#, &*format!(r#"Basic realm="x", {bearer}"#));
        for texts in [&[bearer][..], &[basic, bearer], &["Negotiate", bearer], &[both], &[bearer, basic]] {
            assert_eq!(choose(texts), expected, "{texts:?}");
        }
        assert_eq!(choose(&[basic]), Some(Challenge::Basic));
        for nonsense in ["", "Bearer", "Bearer service=\"x\"", "Negotiate abc", "\u{1}"] {
            assert_eq!(choose(&[nonsense]), None, "{nonsense}");
        }
    }

    #[test]
    fn a_password_goes_over_tls_or_stays_on_this_machine() {
        let is = |base: &str, url: &str| is_trusted(&Url::parse(base).unwrap(), &Url::parse(url).unwrap());
        assert!(is("https://r.example", "https://auth.example/token"));
        assert!(is("http://127.0.0.1:5000", "http://localhost:5001/token"));
        for (base, url) in [
            ("https://r.example", "http://r.example/token"),
            ("https://r.example", "http://127.0.0.1/token"),
            ("http://127.0.0.1:5000", "http://elsewhere.example/token"),
        ] {
            assert!(!is(base, url), "{base} {url}");
        }
    }
}
