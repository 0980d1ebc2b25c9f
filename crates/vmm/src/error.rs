//! Errors of the VMM drivers.

use std::path::PathBuf;

use hypeman_record::kind::Kind;

/// Feature that a hypervisor lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// QEMU cannot add memory to a running VM.
    #[error("only Cloud Hypervisor can add memory")]
    MemoryHotplug,
    /// Memory is added in blocks of this size in bytes.
    #[error("must be a multiple of {} MiB", .0 >> 20)]
    HotplugSize(u64),
    /// Cloud Hypervisor has only KVM.
    #[error("Cloud Hypervisor runs on KVM only")]
    Tcg,
    /// Cloud Hypervisor has only TAPs.
    #[error("Cloud Hypervisor can be connected to bridges only")]
    UserNetwork,
}

/// Errors of the VMM drivers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hypervisor's program is not there.
    #[error("{program} is not in PATH")]
    NotInstalled {
        /// Its name.
        program: &'static str,
    },
    /// The hypervisor's program cannot be used.
    #[error("{by}{}: {reason}", path.display())]
    Unusable {
        /// Source of its path, with a colon; empty when it was found in `PATH`.
        by: String,
        /// The program.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The release is too old.
    #[error(
        "{} is Cloud Hypervisor {version}; v{oldest}.0 or newer is needed, because older ones cannot keep a serial line whole on \
         a socket",
        path.display()
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The oldest release that can be used.
        oldest: u32,
    },
    /// The release is too old for what is asked of it.
    #[error(
        "{} is Cloud Hypervisor {version}; v{oldest}.0 or newer is needed for a network, because older ones want to ask the host for the \
         interface by its name, which a confined VMM cannot",
        path.display()
    )]
    TooOldForNetwork {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The oldest release that can have one.
        oldest: u32,
    },
    /// The program does not run on this host's KVM.
    #[error("{} does not run on this host's KVM: {reason}", path.display())]
    NoKvm {
        /// The program.
        path: PathBuf,
        /// Its words.
        reason: String,
    },
    /// The hypervisor cannot do what the specification asks for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A file, FIFO or socket in the VM's directory could not be made, opened or removed.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// The VMM ended while it was asked for something.
    #[error("{request}: the VMM closed the connection: {message}")]
    BrokenOff {
        /// The request.
        request: String,
        /// Error of the connection.
        message: String,
    },
    /// The VMM refused a request.
    #[error("{request}: {message}")]
    Api {
        /// The request.
        request: String,
        /// The VMM's words, outermost cause first.
        message: String,
    },
}

impl Error {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotInstalled { .. } => Kind::NotInstalled,
            Error::Unusable { .. } => Kind::Invalid,
            Error::TooOld { .. } | Error::TooOldForNetwork { .. } | Error::Unsupported(_) => {
                Kind::Unsupported
            }
            Error::NoKvm { .. } => Kind::NoKvm,
            Error::Files(error) => Kind::of_files(error),
            Error::BrokenOff { .. } | Error::Api { .. } => Kind::Vmm,
        }
    }
}

/// Result of the drivers.
pub type Result<T> = std::result::Result<T, Error>;
