//! Summary of a snapshot, in upstream's words.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::compression::{self, Progress};
use crate::manifest::Algorithm;
use crate::{Manifest, standby};

/// How far the compression of a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionState {
    /// Nobody has asked for it.
    None,
    /// It is under way.
    Compressing,
    /// It is done.
    Compressed,
    /// It has failed; the snapshot is as usable as before.
    Error,
}

/// A snapshot's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// When the guest was stopped.
    pub taken: Timestamp,
    /// How the memory is compressed.
    pub compression: Option<Algorithm>,
    /// How far that is.
    pub compression_state: CompressionState,
    /// How much was read of how much, while it is under way.
    pub compression_progress: Option<Progress>,
    /// Why it has failed.
    pub compression_error: Option<String>,
    /// Size of the memory as it is, in bytes.
    pub uncompressed_size_bytes: u64,
    /// Its size when it is compressed, in bytes.
    pub compressed_size_bytes: Option<u64>,
}

impl Summary {
    /// Of the whole snapshot in `directory`, if there is one that can be read.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Summary> {
        let manifest = standby::manifest(directory).ok()?;
        let progress = compression::progress(directory);
        let error = compression::error(directory, manifest.taken);
        let compressed = manifest.files.iter().find_map(|file| file.compressed);
        let state = match (progress, compressed, &error) {
            (Some(_), ..) => CompressionState::Compressing,
            (None, Some(_), _) => CompressionState::Compressed,
            (None, None, Some(_)) => CompressionState::Error,
            (None, None, None) => CompressionState::None,
        };
        Some(Summary {
            taken: manifest.taken,
            compression: compressed.map(|compressed| compressed.algorithm),
            compression_state: state,
            compression_progress: progress,
            compression_error: error.filter(|_| state == CompressionState::Error),
            uncompressed_size_bytes: manifest.size(),
            compressed_size_bytes: compressed.map(|_| stored(&manifest)),
        })
    }
}

fn stored(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.compressed.map_or(file.size, |compressed| compressed.size)).sum()
}
