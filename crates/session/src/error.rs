//! Errors between hypeman and a VM.

use std::io::ErrorKind;

use hypeman_agent::protocol::Failure;
use hypeman_record::kind::Kind;

/// Error between hypeman and a VM.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim does not answer.
    #[error("instance {name}: its shim does not answer: {reason}")]
    Silent {
        /// The instance's name.
        name: String,
        /// Its behaviour instead.
        reason: String,
        /// Whether it hung up, as a shim that ends does.
        hung_up: bool,
    },
    /// The shim refused a request.
    #[error("instance {name}: {reason}")]
    Refused {
        /// The instance's name.
        name: String,
        /// Its kind.
        kind: Kind,
        /// The shim's reason.
        reason: String,
    },
    /// The guest has neither our init nor our agent.
    #[error("instance {name} has no guest agent")]
    NoInit {
        /// The instance's name.
        name: String,
    },
    /// No connection to the guest could be made; from the dialer.
    #[error(transparent)]
    Dial(Box<dyn std::error::Error + Send + Sync>),
    /// The guest could not do it, and says why.
    #[error("the guest says: {0}")]
    Guest(Failure),
    /// A command could not be run, and the guest says why.
    #[error("{0}")]
    NotRun(Failure),
    /// A path cannot be used.
    #[error("{path}: {reason}")]
    Path {
        /// The path, here or in the guest.
        path: String,
        /// The reason.
        reason: String,
    },
    /// The guest's agent says nothing.
    #[error("the guest's agent does not answer")]
    NoAnswer,
    /// The guest's agent does not keep to the protocol.
    #[error("unexpected message from the guest's agent: {0}")]
    Unexpected(String),
    /// The connection broke, or a file of ours could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// As [`Error::Io`], and what for.
    #[error("{what}")]
    At {
        /// The operation, or its place.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether it is of a shim that has hung up.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        matches!(self, Error::Silent { hung_up: true, .. })
    }

    /// Whether a connection broke: its VM may have ended, or something on the way.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(self, Error::Io(error) if [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind()))
    }

    /// Its kind; only the dialer knows that of its own error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Silent { .. } => Kind::Silent,
            Error::Refused { kind, .. } => *kind,
            Error::NoInit { .. } => Kind::Unsupported,
            Error::Dial(_) => Kind::Internal,
            Error::Guest(_) | Error::NotRun(_) | Error::NoAnswer | Error::Unexpected(_) => Kind::Guest,
            Error::Path { .. } => Kind::NotFound,
            Error::Io(error) | Error::At { source: error, .. } => Kind::of_io(error),
        }
    }

    /// The answer to another question.
    pub(crate) fn unexpected(message: &impl std::fmt::Debug) -> Error {
        Error::Unexpected(format!("{message:?}"))
    }
}

/// Says what an error of the system was about.
pub(crate) trait What<T> {
    fn what(self, what: impl Into<String>) -> Result<T>;
}

impl<T> What<T> for std::io::Result<T> {
    fn what(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::At { what: what.into(), source })
    }
}
