//! Errors of the shim.

use std::fmt::Display;

use hypeman_record::kind::Kind;

/// Error that ends a shim before its VM runs.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// Its kind.
    pub kind: Kind,
    /// The failed operation and its reason.
    pub reason: String,
}

impl Error {
    pub(crate) fn new(kind: Kind, reason: impl Display) -> Error {
        Error { kind, reason: reason.to_string() }
    }
}

/// Result of the shim.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done.
pub(crate) trait Cause: Display {
    /// Its kind.
    fn kind(&self) -> Kind;
}

macro_rules! causes {
    ($($cause:ty: |$error:ident| $kind:expr;)+) => {
        $(impl Cause for $cause {
            fn kind(&self) -> Kind {
                let $error = self;
                $kind
            }
        })+
    };
}

causes! {
    &str: |_error| Kind::Internal;
    String: |_error| Kind::Internal;
    Error: |error| error.kind;
    std::io::Error: |error| Kind::of_io(error);
    rustix::io::Errno: |error| Kind::of_io(&std::io::Error::from(*error));
    tokio::task::JoinError: |_error| Kind::Internal;
    tokio::time::error::Elapsed: |_error| Kind::Silent;
    hypeman_console::log::Error: |error| Kind::of_io(&error.source);
    hypeman_confine::Error: |_error| Kind::NotConfined;
    hypeman_files::Error: |error| Kind::of_files(error);
    hypeman_network::Error: |error| error.kind();
    hypeman_record::format::Error: |error| error.kind();
    hypeman_snapshot::Error: |error| error.kind();
    hypeman_vmm::Error: |error| error.kind();
}

/// Any error before the guest runs is a failed start, with what was being done before the cause.
pub(crate) trait StartContext<T> {
    fn start(self, doing: &str) -> Result<T>;
}

impl<T, E: Cause> StartContext<T> for std::result::Result<T, E> {
    fn start(self, doing: &str) -> Result<T> {
        self.map_err(|cause| Error::new(cause.kind(), format_args!("{doing}: {cause}")))
    }
}

/// Adds nothing to a cause that says all there is to say.
pub(crate) fn told(cause: impl Cause) -> Error {
    Error::new(cause.kind(), &cause)
}
