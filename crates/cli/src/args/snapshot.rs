//! Arguments of snapshots and forks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCompleter;
use hypeman_host::fork::Target;
use hypeman_record::named::Kind;
use hypeman_snapshot::Algorithm;

use super::FormatArgument;
use super::choices::Hypervisor;
use super::labels::Labels;
use crate::names;

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Create a snapshot; a running instance pauses meanwhile
    Create {
        /// Kind of the snapshot [default: what the instance has]
        #[arg(long, value_enum)]
        kind: Option<SnapshotKind>,
        /// Name of the snapshot
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        labels: Labels,
        #[command(flatten)]
        compression: CompressionArgument,
        /// Name, id or id prefix of the instance
        #[arg(add = ArgValueCompleter::new(names::instances))]
        instance: String,
    },
    /// Import a snapshot that another tool made with Cloud Hypervisor, with copies of its disks
    Import {
        /// Name of the snapshot
        #[arg(long)]
        name: String,
        /// File outside the directory that the snapshot may use; repeatable
        #[arg(long, value_name = "PATH")]
        disk: Vec<PathBuf>,
        /// Directory with config.json
        directory: PathBuf,
    },
    /// List snapshots
    Ls {
        /// Print ids only
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print details of snapshots as JSON
    Inspect {
        #[arg(required = true, value_name = "SNAPSHOT", add = ArgValueCompleter::new(names::snapshots))]
        snapshots: Vec<String>,
    },
    /// Restore a stopped instance to a snapshot of it
    Restore {
        #[command(flatten)]
        into: BecomeArguments,
        /// Name, id or id prefix of the instance
        #[arg(add = ArgValueCompleter::new(names::instances))]
        instance: String,
        /// Name, id or id prefix of the snapshot
        #[arg(add = ArgValueCompleter::new(names::snapshots))]
        snapshot: String,
    },
    /// Create an instance from a snapshot
    Fork {
        #[command(flatten)]
        into: BecomeArguments,
        #[command(flatten)]
        labels: Labels,
        /// Name, id or id prefix of the snapshot
        #[arg(add = ArgValueCompleter::new(names::snapshots))]
        snapshot: String,
        /// Name of the instance
        #[arg(value_name = "NEW")]
        name: String,
    },
    /// Remove snapshots
    Rm {
        #[arg(required = true, value_name = "SNAPSHOT", add = ArgValueCompleter::new(names::snapshots))]
        snapshots: Vec<String>,
    },
}

/// State of an instance after it is put back.
#[derive(Debug, Args)]
pub(crate) struct BecomeArguments {
    /// State afterwards [default: running with memory, else stopped]
    #[arg(long, value_enum)]
    pub(crate) state: Option<TargetState>,
    /// Another hypervisor, for a snapshot of kind Stopped
    #[arg(long, value_enum)]
    pub(crate) hypervisor: Option<Hypervisor>,
}

/// Content of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SnapshotKind {
    /// Disks and memory
    #[value(alias = "Standby")]
    Standby,
    /// Disks
    #[value(alias = "Stopped")]
    Stopped,
}

impl SnapshotKind {
    pub(crate) fn kind(self) -> Kind {
        match self {
            SnapshotKind::Standby => Kind::Standby,
            SnapshotKind::Stopped => Kind::Stopped,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CompressionArgument {
    /// Compress the memory in the background
    #[arg(long, value_enum, value_name = "ALGORITHM")]
    compress: Option<Compression>,
}

impl CompressionArgument {
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.compress.map(|compression| match compression {
            Compression::Zstd => Algorithm::Zstd,
            Compression::Lz4 => Algorithm::Lz4,
        })
    }
}

/// How memory is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compression {
    /// Smaller
    Zstd,
    /// Faster
    Lz4,
}

/// State of a fork after it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetState {
    /// Restored from its memory, or booted
    Running,
    /// In standby
    Standby,
    /// Disks only
    Stopped,
}

impl From<TargetState> for Target {
    fn from(state: TargetState) -> Target {
        match state {
            TargetState::Running => Target::Running,
            TargetState::Standby => Target::Standby,
            TargetState::Stopped => Target::Stopped,
        }
    }
}
