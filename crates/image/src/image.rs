//! An image in its directory.

use std::path::PathBuf;

use hypeman_record::format::{Envelope, Versioned};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// The disk in an image's directory.
pub(crate) const ROOTFS: &str = "rootfs.squashfs";

/// The record of an image, `image.json`. Written once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    #[serde(flatten)]
    pub(crate) image: Image,
    #[serde(flatten)]
    pub(crate) envelope: Envelope,
}

impl Versioned for ImageRecord {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its manifest, or of its configuration where there was no manifest.
    pub digest: String,
    /// The names that stand for it, as people write them.
    #[serde(skip_deserializing, default)]
    pub names: Vec<String>,
    /// When it came here.
    pub imported: Timestamp,
    /// Size of its disk in bytes.
    pub size: u64,
    /// How to run it.
    pub config: Config,
    #[serde(skip)]
    pub(crate) directory: PathBuf,
}

impl Image {
    pub(crate) fn new(digest: String, size: u64, config: Config) -> Image {
        Image {
            digest,
            names: Vec::new(),
            imported: Timestamp::now(),
            size,
            config,
            directory: PathBuf::new(),
        }
    }

    /// The read-only disk with its root filesystem, a squashfs.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join(ROOTFS)
    }
}
