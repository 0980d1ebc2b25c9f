//! Errors, each naming the thing, the reason and a hint.

use hypeman_record::kind::Kind;

/// Error of an operation on images and kernels.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its caller has cancelled it.
    #[error("cancelled")]
    Cancelled,
    /// Neither the name of an image nor the beginning of a digest.
    #[error("no such image: {0}")]
    NotFound(String),
    /// The beginning of several digests.
    #[error("ambiguous digest prefix {0:?}")]
    Ambiguous(String),
    /// The image or kernel is needed.
    #[error("{what} is in use by {user}")]
    InUse {
        /// The image or kernel.
        what: String,
        /// By what: `instance NAME` or `snapshot ID`.
        user: String,
    },
    /// A reference that cannot be one.
    #[error("invalid image reference {reference:?}: {reason}")]
    Reference {
        /// The given reference.
        reference: String,
        /// The parser's words.
        reason: String,
    },
    /// The registry refused, broke off, or sent something else.
    #[error("pull {reference}: {reason}")]
    Pull {
        /// The image.
        reference: String,
        /// Its kind: the registry has no such image, limits how often it is asked, or gives
        /// something else.
        kind: Kind,
        /// The failure, with a hint.
        reason: String,
    },
    /// The image itself is not right.
    #[error("{what}: {reason}")]
    Content {
        /// The file, layer or entry.
        what: String,
        /// The fault.
        reason: String,
    },
    /// Bytes are not those that were promised.
    #[error("{what}: digest is {found}, expected {expected}: damaged in transit, get it again")]
    Digest {
        /// The layer or document.
        what: String,
        /// The expected value.
        expected: String,
        /// The value found.
        found: String,
    },
    /// A program of the system failed.
    #[error("{tool} failed: {reason}")]
    Tool {
        /// The program.
        tool: String,
        /// The registry's message.
        reason: String,
    },
    /// No kernel.
    #[error("no kernel {}is here", .0.as_deref().map(|version| format!("{version:?} ")).unwrap_or_default())]
    NoKernel(Option<String>),
    /// A kernel has the name already.
    #[error("kernel name {0:?} is taken")]
    KernelTaken(String),
    /// A file that no VMM can boot.
    #[error("{path} is not a kernel: neither a bzImage nor an ELF with a PVH note")]
    NotAKernel {
        /// The file.
        path: String,
    },
    /// A file of the store.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// A record of a newer release.
    #[error(transparent)]
    Record(hypeman_record::format::Error),
}

impl Error {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotFound(_) | Error::NoKernel(_) => Kind::NotFound,
            Error::Cancelled => Kind::Cancelled,
            Error::Ambiguous(_) => Kind::Ambiguous,
            Error::InUse { .. } => Kind::InUse,
            Error::Reference { .. } | Error::NotAKernel { .. } => Kind::Invalid,
            Error::Pull { kind, .. } => *kind,
            Error::Content { .. } | Error::Digest { .. } => Kind::Damaged,
            Error::Tool { .. } => Kind::Internal,
            Error::KernelTaken(_) => Kind::Taken,
            Error::Files(error) => Kind::of_files(error),
            Error::Record(error) => error.kind(),
        }
    }
}

impl From<hypeman_record::format::Error> for Error {
    fn from(error: hypeman_record::format::Error) -> Error {
        match error {
            hypeman_record::format::Error::Files(error) => Error::Files(error),
            newer => Error::Record(newer),
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Longest reason that is told, in characters: an archive may have any bytes where a reason quotes
/// it.
const MAX_REASON: usize = 1000;

/// A [`Error::Content`].
pub(crate) fn content(what: impl Into<String>, reason: impl ToString) -> Error {
    let reason = reason.to_string();
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    Error::Content { what: what.into(), reason: reason.chars().map(printable).take(MAX_REASON).collect() }
}
