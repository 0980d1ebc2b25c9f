//! snapshot: create, import, ls, inspect, restore, fork and rm.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_instance::snapshots::{Snapshot, Snapshots};
use hypeman_instance::{compress, foreign, fork, rewind};
use hypeman_record::named::Kind;
use hypeman_snapshot::summary::{CompressionState, Summary};
use jiff::Timestamp;
use serde::Serialize;

use super::create;
use crate::args::{Format, SnapshotCommand, SnapshotKind};
use crate::context::{Context, programs};
use crate::each::each;
use crate::{output, size};

/// What a listing tells of a snapshot, in upstream's words.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: Option<String>,
    kind: Kind,
    created_at: Timestamp,
    size_bytes: u64,
    source_instance_id: String,
    source_instance_name: String,
    source_hypervisor: hypeman_record::spec::HypervisorKind,
    /// Its memory, if it has some.
    memory: Option<Summary>,
}

impl Row {
    fn of(snapshot: &Snapshot) -> hypeman_instance::Result<Row> {
        let record = &snapshot.record;
        Ok(Row {
            memory: Summary::of(&snapshot.directory),
            id: record.id.clone(),
            name: record.name.clone(),
            kind: record.kind,
            created_at: record.created,
            size_bytes: snapshot.room()?,
            source_instance_id: record.source.id.clone(),
            source_instance_name: record.source.name.clone(),
            source_hypervisor: record.source.settings.hypervisor,
        })
    }
}

/// All that is known of a snapshot.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    row: Row,
    /// The instance as it was.
    source: hypeman_record::record::Record,
    directory: std::path::PathBuf,
}

pub(crate) fn snapshot(context: &Context, command: SnapshotCommand) -> Result<ExitCode> {
    let (store, snapshots) = (&context.instances, Snapshots::new(&context.data_dir));
    match command {
        SnapshotCommand::Create { kind, name, compression, instance } => {
            let instance = store.find(&instance)?;
            let kind = kind.map(SnapshotKind::kind);
            let made = snapshots.create(store, &instance, kind, name.as_deref(), &programs()?)?;
            if let (Some(algorithm), true) = (compression.algorithm(), made.has_memory()) {
                compress::begin(&made.directory, algorithm, &programs()?.hypeman)?;
            }
            output::line(&made.record.id)?;
        }
        SnapshotCommand::Import { name, disk, directory } => {
            let made = foreign::import(&snapshots, &directory, &name, &disk, create::USUAL_LOG)?;
            output::line(&made.record.id)?;
        }
        SnapshotCommand::Ls { quiet, format } => return list(&snapshots, quiet, format.format),
        SnapshotCommand::Inspect { snapshots: queries } => {
            let found = queries.iter().map(|query| document(snapshots.find(query, None)?));
            output::documents(&found.collect::<Result<Vec<_>>>()?)?;
        }
        SnapshotCommand::Restore { into, instance, snapshot } => {
            let instance = store.find(&instance)?;
            let snapshot = snapshots.find(&snapshot, Some(&instance))?;
            let (state, hypervisor) = (into.state.map(Into::into), into.hypervisor.map(Into::into));
            rewind::rewind(store, &instance, &snapshot, state, hypervisor, &programs()?)?;
            output::line(&instance.record.name)?;
        }
        SnapshotCommand::Fork { into, snapshot, name } => {
            let snapshot = snapshots.find(&snapshot, None)?;
            let (state, hypervisor) = (into.state.map(Into::into), into.hypervisor.map(Into::into));
            let made = fork::fork_snapshot(store, &snapshot, &name, state, hypervisor, &programs()?)?;
            output::line(&made.record.id)?;
        }
        SnapshotCommand::Rm { snapshots: queries } => {
            return Ok(each(&queries, |query| {
                snapshots.remove(query)?;
                output::line(query)
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(snapshots: &Snapshots, quiet: bool, format: Format) -> Result<ExitCode> {
    let (found, damaged) = snapshots.list()?;
    damaged.iter().for_each(output::complain);
    let unreadable = found.iter().filter(|snapshot| snapshot.has_memory()).filter_map(|snapshot| {
        let error = hypeman_snapshot::standby::manifest(&snapshot.directory).err()?;
        Some(format!("snapshot {}: {error}", snapshot.record.id))
    });
    let unreadable: Vec<String> = unreadable.collect();
    unreadable.iter().for_each(output::complain);
    let rows = found.iter().map(Row::of).collect::<Result<Vec<_>, _>>()?;
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
    let row = Row::of(&snapshot)?;
    Ok(Document { row, source: snapshot.record.source, directory: snapshot.directory })
}
