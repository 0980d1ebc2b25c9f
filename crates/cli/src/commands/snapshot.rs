//! snapshot: create, import, ls, inspect, restore, fork and rm.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::fork::ForkRequest;
use hypeman_host::named::{Resume, SnapshotRequest};
use hypeman_host::snapshots::Snapshot;
use hypeman_host::views::SnapshotView;
use hypeman_record::named::Kind;
use hypeman_record::record::LogLimits;
use hypeman_snapshot::summary::{CompressionState, Summary};
use serde::Serialize;

use crate::args::{BecomeArguments, Format, SnapshotCommand, SnapshotKind};
use crate::each::each;
use crate::{output, size};

/// All that is known of a snapshot.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    view: SnapshotView,
    /// The instance as it was.
    source: hypeman_record::record::Record,
    directory: std::path::PathBuf,
}

pub(crate) fn snapshot(host: &Host, command: SnapshotCommand) -> Result<ExitCode> {
    match command {
        SnapshotCommand::Create { kind, name, labels, compression, instance } => {
            let compression = compression.algorithm();
            let (kind, tags) = (kind.map(SnapshotKind::kind), labels.tags());
            let request = SnapshotRequest { name, kind, tags, compression };
            output::line(&host.create_snapshot(&instance, &request)?.record.id)?;
        }
        SnapshotCommand::Import { name, disk, directory } => {
            output::line(&host.import_snapshot(&directory, &name, &disk, LogLimits::default())?.record.id)?;
        }
        SnapshotCommand::Ls { quiet, format } => return list(host, quiet, format.format),
        SnapshotCommand::Inspect { snapshots: queries } => {
            let found = queries.iter().map(|query| document(host.snapshot(query, None)?));
            output::documents(&found.collect::<Result<Vec<_>>>()?)?;
        }
        SnapshotCommand::Restore { into, instance, snapshot } => {
            let restored = host.restore_snapshot(&instance, &snapshot, resume(&into))?;
            output::line(&restored.record.name)?;
        }
        SnapshotCommand::Fork { into, labels, snapshot, name } => {
            let Resume { state, hypervisor } = resume(&into);
            let request = ForkRequest { name, state, tags: labels.tags() };
            output::line(&host.fork_snapshot(&snapshot, &request, hypervisor)?.record.id)?;
        }
        SnapshotCommand::Rm { snapshots: queries } => {
            return Ok(each(&queries, |query| {
                host.remove_snapshot(query)?;
                output::line(query)
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn resume(into: &BecomeArguments) -> Resume {
    Resume { state: into.state.map(Into::into), hypervisor: into.hypervisor.map(Into::into) }
}

fn list(host: &Host, quiet: bool, format: Format) -> Result<ExitCode> {
    let (found, damaged) = host.list_snapshots()?;
    damaged.iter().for_each(output::complain);
    let unreadable = found
        .iter()
        .filter_map(|snapshot| Some(format!("snapshot {}: {}", snapshot.record.id, snapshot.damage()?)));
    let unreadable: Vec<String> = unreadable.collect();
    unreadable.iter().for_each(output::complain);
    let rows = found.iter().map(Snapshot::view).collect::<Result<Vec<_>, _>>()?;
    if quiet {
        output::lines(rows.iter().map(|row| &row.id))?;
    } else {
        let header = ["ID", "NAME", "KIND", "INSTANCE", "HYPERVISOR", "CREATED", "SIZE", "MEMORY"];
        output::list(format, &header, &rows, |row| {
            vec![
                row.id.chars().take(12).collect(),
                row.name.clone().unwrap_or_else(|| "-".to_owned()),
                row.kind.to_string(),
                row.source_instance_name.clone(),
                output::word(&row.source_hypervisor),
                format!("{} ago", output::ago(row.created_at)),
                size::show(row.size_bytes),
                match (&row.memory, row.kind) {
                    (Some(summary), _) => memory(summary),
                    (None, Kind::Standby) => "damaged".to_owned(),
                    (None, Kind::Stopped) => "-".to_owned(),
                },
            ]
        })?;
    }
    Ok(if damaged.is_empty() && unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The size of a memory, and how far its compression is.
pub(super) fn memory(memory: &Summary) -> String {
    let size = size::show(memory.compressed_size_bytes.unwrap_or(memory.uncompressed_size_bytes));
    match (memory.compression_state, memory.compression_progress) {
        (CompressionState::None, _) => size,
        (CompressionState::Compressing, Some(progress)) => {
            format!("{size}, compressing: {} %", progress.done * 100 / progress.total.max(1))
        }
        (CompressionState::Compressing, None) => format!("{size}, compressing"),
        (CompressionState::Compressed, _) => {
            format!("{size} of {}", size::show(memory.uncompressed_size_bytes))
        }
        (CompressionState::Error, _) => format!("{size}, not compressed: it failed"),
    }
}

fn document(snapshot: Snapshot) -> Result<Document> {
    let view = snapshot.view()?;
    Ok(Document { view, source: snapshot.record.source, directory: snapshot.directory })
}
