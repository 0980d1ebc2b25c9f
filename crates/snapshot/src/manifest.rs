//! Manifest of a snapshot: its VM, and the conditions of a restore.

use std::path::PathBuf;

use hypeman_record::format::{Envelope, Versioned};
use hypeman_record::launch::Launch;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cpu::Cpu;

/// The manifest, `snapshot.json`. A snapshot without one is not whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// When the guest was stopped.
    pub taken: Timestamp,
    /// The VM as it was started.
    pub launch: Launch,
    /// The CPU that the guest has seen, if it has run on KVM.
    pub cpu: Option<Cpu>,
    /// Memory and devices.
    pub files: Vec<SavedFile>,
    /// The disks that the guest can write, as they were.
    pub disks: Vec<DiskState>,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Versioned for Manifest {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// Its name.
    pub name: String,
    /// Its size in bytes, when it is not compressed.
    pub size: u64,
    /// XXH3 of 128 bits of what it holds, in hexadecimal digits.
    pub checksum: String,
    /// The compressed file in its place, if it was compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed: Option<Compressed>,
}

impl SavedFile {
    /// The name of the file that is there.
    #[must_use]
    pub fn file(&self) -> String {
        match self.compressed {
            Some(Compressed { algorithm, .. }) => format!("{}.{}", self.name, algorithm.ending()),
            None => self.name.clone(),
        }
    }
}

/// A disk that does not lie in the snapshot, and may not change while that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// Where it is, from the instance's directory.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed last: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

impl Manifest {
    /// How much the snapshot holds, in bytes, when it is not compressed.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// How memory is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Smaller.
    Zstd,
    /// Faster.
    Lz4,
}

/// Compressed form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compressed {
    /// How it is compressed.
    pub algorithm: Algorithm,
    /// Its size then, in bytes.
    pub size: u64,
}

impl Algorithm {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Zstd => "zstd",
            Algorithm::Lz4 => "lz4",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Algorithm> {
        [Algorithm::Zstd, Algorithm::Lz4].into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The ending of the names of such files.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Algorithm::Zstd => "zst",
            Algorithm::Lz4 => "lz4",
        }
    }
}
