//! Why a snapshot cannot be used.

use std::path::PathBuf;

use hypeman_record::kind::Kind;

/// Fault of a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it is not there.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// A file of it is not what was written.
    #[error("{} is damaged: its checksum is wrong", .0.display())]
    Damaged(PathBuf),
    /// The memory of a guest fits only the disk as it was.
    #[error("{} was changed after the snapshot was taken and no longer matches the memory", .0.display())]
    DiskChanged(PathBuf),
    /// It was taken by another program.
    #[error("the snapshot was taken with {saved}, this host has {found}")]
    OtherVersion {
        /// The release that took it.
        saved: String,
        /// The release on this host.
        found: String,
    },
    /// It was taken on another CPU.
    #[error("the snapshot was taken on another CPU: {saved}; this host has {found}")]
    OtherCpu {
        /// The CPU that it was taken on.
        saved: String,
        /// This host's CPU.
        found: String,
    },
    /// Its manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] hypeman_record::format::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
}

impl Error {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Missing(_) => Kind::NotFound,
            Error::Damaged(_) | Error::DiskChanged(_) => Kind::Damaged,
            Error::OtherVersion { .. } | Error::OtherCpu { .. } => Kind::Unfit,
            Error::Manifest(error) => error.kind(),
            Error::Files(error) => Kind::of_files(error),
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
