//! Record of a named snapshot.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::format::{Envelope, Versioned};
use crate::record::Record;

/// The record of a named snapshot, `named.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedSnapshot {
    /// 24 hexadecimal digits; also the name of the directory.
    pub id: String,
    /// The user's name for it; unique among the snapshots of an instance.
    pub name: Option<String>,
    /// Its content.
    pub kind: Kind,
    /// When it was made.
    pub created: Timestamp,
    /// The user's tags, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The instance of which it is, as it was.
    pub source: Record,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Versioned for NamedSnapshot {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// Content of a snapshot, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Disks and memory.
    Standby,
    /// Disks.
    Stopped,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Kind::Standby => "Standby",
            Kind::Stopped => "Stopped",
        })
    }
}
