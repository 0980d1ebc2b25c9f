//! Snapshots, as the API describes them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::human::is_no_time;
use crate::instance::{Hypervisor, TargetState};
use crate::null::{null_is_default, object};
use crate::{Name, Tags};

/// Kind of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SnapshotKind {
    /// Memory and disks.
    Standby,
    /// Disks alone.
    Stopped,
}

/// Way of compressing memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompressionAlgorithm {
    /// zstd.
    Zstd,
    /// LZ4.
    Lz4,
}

/// How far the compression of a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// Compression of a memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SnapshotCompressionConfig)]
pub struct Compression {
    /// Whether it is compressed.
    pub enabled: bool,
    /// How; zstd when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<CompressionAlgorithm>,
    /// Level; only the default is supported: 1 of zstd, 0 of LZ4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 19)]
    pub level: Option<u8>,
}

/// A named snapshot of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Id.
    pub id: String,
    /// Name, unique among the snapshots of its instance.
    pub name: Option<String>,
    /// With memory or without.
    pub kind: SnapshotKind,
    /// Tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// Id of the instance that it was made of.
    pub source_instance_id: String,
    /// Name of that instance then.
    pub source_instance_name: String,
    /// Hypervisor of that instance.
    pub source_hypervisor: Hypervisor,
    /// When it was made.
    pub created_at: Timestamp,
    /// Size on disk in bytes, without holes.
    pub size_bytes: u64,
    /// How far its compression is.
    pub compression_state: CompressionState,
    /// Reason why the compression failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_error: Option<String>,
    /// How its memory is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub compression: Option<Compression>,
    /// Size of the compressed memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressed_size_bytes: Option<u64>,
    /// Size of the memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncompressed_size_bytes: Option<u64>,
}

/// Options of a standby.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StandbyInstanceRequest {
    /// Compression of the memory, in the background.
    #[serde(default, deserialize_with = "object")]
    pub compression: Option<Compression>,
    /// Not supported yet: how long the compression waits.
    pub compression_delay: Option<String>,
}

impl StandbyInstanceRequest {
    /// Returns the first field that asks for a feature that does not exist.
    #[must_use]
    pub fn unsupported(&self) -> Option<&'static str> {
        (!is_no_time(self.compression_delay.as_deref())).then_some("compression_delay")
    }
}

/// Request for a snapshot of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateSnapshotRequest {
    /// With memory or without.
    pub kind: SnapshotKind,
    /// Name.
    pub name: Option<Name>,
    /// Tags.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(nullable)]
    pub tags: Tags,
    /// Compression of the memory, in the background.
    #[serde(default, deserialize_with = "object")]
    pub compression: Option<Compression>,
}

/// Options of a restore from a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreSnapshotRequest {
    /// State afterwards; when left out, that for which the snapshot was made.
    pub target_state: Option<TargetState>,
    /// Hypervisor afterwards; only a snapshot without memory can change it.
    pub target_hypervisor: Option<Hypervisor>,
}

/// Options of a fork of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkSnapshotRequest {
    /// Name of the new instance.
    pub name: Name,
    /// State of the new instance; when left out, that for which the snapshot was made.
    pub target_state: Option<TargetState>,
    /// Hypervisor of the new instance; only a snapshot without memory can change it.
    pub target_hypervisor: Option<Hypervisor>,
    /// Tags of the new instance; those of the snapshot's instance are not inherited.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(nullable)]
    pub tags: Tags,
}
