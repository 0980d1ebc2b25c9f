//! What can be said of snapshots and forks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCompleter;
use hypeman_host::fork::Target;
use hypeman_record::named::Kind;
use hypeman_snapshot::Algorithm;

use super::{FormatArgument, Hypervisor};
use crate::names;

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Keep a copy of an instance; one that runs stands still meanwhile
    Create {
        /// What is kept [default: what the instance has]
        #[arg(long, value_enum)]
        kind: Option<SnapshotKind>,
        /// Name for the snapshot
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        compression: CompressionArgument,
        /// Name of the instance, or the beginning of its id
        #[arg(add = ArgValueCompleter::new(names::instances))]
        instance: String,
    },
    /// Take a snapshot that Cloud Hypervisor has written for somebody else, with copies of its disks
    Import {
        /// Name for the snapshot
        #[arg(long)]
        name: String,
        /// File outside of the directory that the snapshot may have, as a disk or its kernel; may
        /// be given several times
        #[arg(long, value_name = "PATH")]
        disk: Vec<PathBuf>,
        /// Directory with its config.json
        directory: PathBuf,
    },
    /// List snapshots
    Ls {
        /// Only the ids
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print all that is known of snapshots, as JSON
    Inspect {
        #[arg(required = true, value_name = "SNAPSHOT", add = ArgValueCompleter::new(names::snapshots))]
        snapshots: Vec<String>,
    },
    /// Put an instance that does not run back to a snapshot of it
    Restore {
        #[command(flatten)]
        into: BecomeArguments,
        /// Name of the instance, or the beginning of its id
        #[arg(add = ArgValueCompleter::new(names::instances))]
        instance: String,
        /// Name of the snapshot, or the beginning of its id
        #[arg(add = ArgValueCompleter::new(names::snapshots))]
        snapshot: String,
    },
    /// Make an instance of a snapshot
    Fork {
        #[command(flatten)]
        into: BecomeArguments,
        /// Name of the snapshot, or the beginning of its id
        #[arg(add = ArgValueCompleter::new(names::snapshots))]
        snapshot: String,
        /// Name for the instance
        #[arg(value_name = "NEW")]
        name: String,
    },
    /// Remove snapshots
    Rm {
        #[arg(required = true, value_name = "SNAPSHOT", add = ArgValueCompleter::new(names::snapshots))]
        snapshots: Vec<String>,
    },
}

/// What becomes of a snapshot.
#[derive(Debug, Args)]
pub(crate) struct BecomeArguments {
    /// What it is to be then [default: running when there is memory to go on from, else stopped]
    #[arg(long, value_enum)]
    pub(crate) state: Option<TargetState>,
    /// Another virtual machine monitor, for a snapshot of kind Stopped
    #[arg(long, value_enum)]
    pub(crate) hypervisor: Option<Hypervisor>,
}

/// What a snapshot holds.
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
    /// Compress the memory, aside and when it is on disk
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

/// What becomes of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetState {
    /// It goes on from its memory, or boots
    Running,
    /// It sleeps
    Standby,
    /// It has the disks only
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
