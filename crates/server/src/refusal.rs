//! Refusals: errors as HTTP answers.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hypeman_host::{Error, Needs};
use hypeman_record::kind::Kind;
use hypeman_record::state::State;

/// Tells upstream's SDKs whether they shall try again; else they do so after a 409 and after each
/// 5xx.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Result of a handler.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// An error as an HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Whether the same request may succeed later.
    may_pass: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        let may_pass = status != StatusCode::NOT_IMPLEMENTED;
        Refusal { status, code, message: message.into(), may_pass }
    }

    /// A token is missing, or wrong.
    pub(crate) fn unauthorized(message: &str) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// The token is not for this.
    pub(crate) fn forbidden(scope: crate::scope::Scope) -> Refusal {
        let message = format!("missing required scope: {scope}");
        Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// The request does not fit its schema.
    pub(crate) fn malformed(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "Bad Request", message)
    }

    /// A value cannot be used.
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The thing does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The path has no such method.
    pub(crate) fn method_not_allowed() -> Refusal {
        let message = "the path has no such method; the header Allow lists those that it has";
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// The feature does not exist, or not here.
    pub(crate) fn not_supported(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_IMPLEMENTED, "not_supported", message)
    }

    /// The field of a request asks for a feature that does not exist.
    pub(crate) fn no_feature(field: &str) -> Refusal {
        Refusal::not_supported(format!("{field} is not supported yet"))
    }

    /// The state of a thing forbids the request.
    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { may_pass: false, ..Refusal::new(StatusCode::CONFLICT, code, message) }
    }

    /// A fault of the server or its host.
    pub(crate) fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// Some code has panicked; the panic's own message is on standard error.
    pub(crate) fn fault() -> Refusal {
        Refusal::internal("the server met a fault of its own; its log has it")
    }

    /// The same, which may pass.
    pub(crate) fn passing(self) -> Refusal {
        Refusal { may_pass: true, ..self }
    }

    /// Its code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The reason, in a sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED {
            tracing::error!("{} {}: {}", self.status.as_u16(), self.code, self.message);
        }
        let body = hypeman_wire::Error { code: self.code.to_owned(), message: self.message };
        let mut response = (self.status, Json(body)).into_response();
        let is_retried = matches!(self.status, StatusCode::CONFLICT | StatusCode::NOT_IMPLEMENTED);
        if is_retried && !self.may_pass {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let message = match &error {
            Error::State { name, state, needs } => {
                format!("instance {name} must {} (current state: {state})", condition(*needs))
            }
            _ => hypeman_files::with_causes(&error),
        };
        let refusal = of_kind(error.kind(), message);
        // On its way to another state.
        match &error {
            Error::State { state: State::Initializing | State::Shutdown, .. } => refusal.passing(),
            _ => refusal,
        }
    }
}

impl From<hypeman_session::Error> for Refusal {
    fn from(error: hypeman_session::Error) -> Refusal {
        Error::from(error).into()
    }
}

impl From<hypeman_files::Error> for Refusal {
    fn from(error: hypeman_files::Error) -> Refusal {
        of_kind(Kind::of_files(&error), hypeman_files::with_causes(&error))
    }
}

/// Condition of a request on an instance, in upstream's words.
fn condition(needs: Needs) -> &'static str {
    match needs {
        Needs::Running => "be running",
        Needs::Stopped | Needs::StoppedOrForce => "be stopped",
        Needs::NoSnapshot => "have no memory to go on from; restore it",
        Needs::Standby => "be in standby",
        Needs::Memory => "be running or in standby",
    }
}

/// The status and the code of a kind of error.
fn of_kind(kind: Kind, message: String) -> Refusal {
    match kind {
        Kind::NotFound => Refusal::not_found(message),
        Kind::Ambiguous => Refusal::conflict("ambiguous", message),
        Kind::Taken => Refusal::conflict("name_conflict", message),
        Kind::PortTaken => Refusal::conflict("port_in_use", message).passing(),
        Kind::InUse | Kind::Cancelled => Refusal::conflict("conflict", message).passing(),
        Kind::Invalid => Refusal::invalid("invalid_request", message),
        Kind::WrongState | Kind::Unfit | Kind::Guest | Kind::Broken => {
            Refusal::conflict("invalid_state", message)
        }
        Kind::Unsupported | Kind::NoKvm | Kind::NotConfined => Refusal::not_supported(message),
        Kind::NotInstalled => Refusal::new(StatusCode::NOT_IMPLEMENTED, "dependency_missing", message),
        Kind::DiskFull | Kind::NoAddress => Refusal::conflict("insufficient_resources", message).passing(),
        Kind::RateLimited => Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message),
        Kind::Remote => Refusal::invalid("registry_error", message),
        Kind::Denied | Kind::Damaged | Kind::Newer | Kind::Silent | Kind::Vmm | Kind::Internal => {
            Refusal::internal(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_tries_again_only_what_may_pass() {
        let told = |refusal: Refusal| {
            let response = refusal.into_response();
            let told = response.headers().get(SHOULD_RETRY).map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), told)
        };
        let never = Some("false".to_owned());
        let state = |state| Error::State { name: "a".to_owned(), state, needs: Needs::Running };
        assert_eq!(told(state(State::Stopped).into()), (409, never.clone()));
        assert_eq!(told(state(State::Initializing).into()), (409, None));
        assert_eq!(told(of_kind(Kind::Taken, String::new())), (409, never.clone()));
        assert_eq!(told(of_kind(Kind::DiskFull, String::new())), (409, None));
        assert_eq!(told(Refusal::not_supported("x")), (501, never));
        assert_eq!(told(Refusal::internal("x")), (500, None));
        assert_eq!(told(Refusal::malformed("x")), (400, None));
    }

    #[test]
    fn a_wrong_state_is_told_with_the_state_and_what_is_needed() {
        let error = Error::State { name: "web".to_owned(), state: State::Stopped, needs: Needs::Running };
        let refusal = Refusal::from(error);
        assert_eq!(refusal.code(), "invalid_state");
        assert_eq!(refusal.message(), "instance web must be running (current state: Stopped)");
    }
}
