//! Record of a pull that a server was asked for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::format::{Envelope, Versioned};
use crate::kind::Kind;

/// The record of a pull. It stays after the pull as long as it has something to tell: the tags of
/// an image, or why it could not be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Whole name of the image.
    pub name: String,
    /// Digest that the name meant when it was asked for.
    pub digest: String,
    /// The user's tags of the image, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// When it was asked for.
    pub asked: Timestamp,
    /// Whether credentials were lent for it, without which another server cannot go on.
    #[serde(default)]
    pub has_credentials: bool,
    /// How far it is.
    pub progress: Progress,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Versioned for Pull {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It is to be done.
    Asked,
    /// The image is here.
    Done,
    /// It has failed.
    Failed {
        /// Kind of the error.
        kind: Kind,
        /// The reason.
        reason: String,
    },
}
