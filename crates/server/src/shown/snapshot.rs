//! A snapshot, as the API describes it, and the compression of one.

use hypeman_host::snapshots::Snapshot;
use hypeman_record::named::Kind;
use hypeman_snapshot::Algorithm;
use hypeman_snapshot::summary::CompressionState as State;
use hypeman_wire::Tags;
use hypeman_wire::snapshot::{
    self as wire, Compression, CompressionAlgorithm, CompressionState, SnapshotKind,
};

use super::hypervisor;
use crate::refusal::{Answer, Refusal};

/// Largest level that a client may ask for.
const MAX_LEVEL: u8 = 19;

/// Describes a snapshot.
///
/// # Errors
/// When its files cannot be looked at.
pub(crate) fn snapshot(snapshot: &Snapshot) -> hypeman_host::Result<wire::Snapshot> {
    let view = snapshot.view()?;
    let memory = view.memory.as_ref();
    let algorithm = memory.and_then(|memory| memory.compression).map(|algorithm| match algorithm {
        Algorithm::Zstd => CompressionAlgorithm::Zstd,
        Algorithm::Lz4 => CompressionAlgorithm::Lz4,
    });
    Ok(wire::Snapshot {
        compression_state: match memory.map(|memory| memory.compression_state) {
            None | Some(State::None) => CompressionState::None,
            Some(State::Compressing) => CompressionState::Compressing,
            Some(State::Compressed) => CompressionState::Compressed,
            Some(State::Error) => CompressionState::Error,
        },
        compression_error: memory.and_then(|memory| memory.compression_error.clone()),
        compression: algorithm.map(|algorithm| Compression {
            enabled: true,
            algorithm: Some(algorithm),
            level: None,
        }),
        compressed_size_bytes: memory.and_then(|memory| memory.compressed_size_bytes),
        uncompressed_size_bytes: memory.map(|memory| memory.uncompressed_size_bytes),
        id: view.id,
        name: view.name,
        kind: match view.kind {
            Kind::Standby => SnapshotKind::Standby,
            Kind::Stopped => SnapshotKind::Stopped,
        },
        tags: Tags::from(&view.tags),
        source_instance_id: view.source_instance_id,
        source_instance_name: view.source_instance_name,
        source_hypervisor: hypervisor(view.source_hypervisor),
        created_at: view.created_at,
        size_bytes: view.size_bytes,
    })
}

/// Translates a wish for compression.
///
/// # Errors
/// When the level is not the only one that there is.
pub(crate) fn compression(wish: Option<&Compression>) -> Answer<Option<Algorithm>> {
    if let Some(level) = wish.and_then(|wish| wish.level).filter(|level| *level > MAX_LEVEL) {
        return Err(Refusal::malformed(format!("compression.level: {level}: it has to be 0 to {MAX_LEVEL}")));
    }
    let Some(wish) = wish.filter(|wish| wish.enabled) else { return Ok(None) };
    let (algorithm, level) = match wish.algorithm.unwrap_or(CompressionAlgorithm::Zstd) {
        CompressionAlgorithm::Zstd => (Algorithm::Zstd, 1),
        CompressionAlgorithm::Lz4 => (Algorithm::Lz4, 0),
    };
    match wish.level {
        Some(other) if other != level => {
            let message = format!("compression.level: {} has only level {level} here", algorithm.name());
            Err(Refusal::not_supported(message))
        }
        _ => Ok(Some(algorithm)),
    }
}
