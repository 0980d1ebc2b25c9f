//! Named snapshots of a host's instances.

use std::path::{Path, PathBuf};

use hypeman_record::named::Kind;
use hypeman_record::record::LogLimits;
use hypeman_record::spec::HypervisorKind;
use hypeman_snapshot::Algorithm;

use crate::error::{Error, Result};
use crate::fork::Target;
use crate::host::Host;
use crate::instance::Instance;
use crate::snapshots::Snapshot;
use crate::{compress, foreign, fork, rewind};

/// A request for a snapshot of an instance.
#[derive(Debug, Clone, Default)]
pub struct SnapshotRequest {
    /// Its name, if it is to have one.
    pub name: Option<String>,
    /// With memory or without; what the instance has when absent.
    pub kind: Option<Kind>,
    /// How its memory is compressed, in the background.
    pub compression: Option<Algorithm>,
}

/// Options for restoring an instance from a snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resume {
    /// State afterwards; the one that the snapshot was made for when absent.
    pub state: Option<Target>,
    /// Its hypervisor; that of the snapshot when absent.
    pub hypervisor: Option<HypervisorKind>,
}

impl Host {
    /// Makes a snapshot of an instance. A running one is put to standby, copied, and resumed.
    ///
    /// # Errors
    /// When the instance has no memory and some was asked for, or runs and only its disks were
    /// asked for, or the name is taken, or the disk is full; nothing is left then.
    pub fn create_snapshot(&self, instance: &str, request: &SnapshotRequest) -> Result<Snapshot> {
        let (instance, programs) = (self.find(instance)?, self.programs()?);
        let SnapshotRequest { name, kind, compression } = request;
        let made = self.snapshots().create(&self.instances, &instance, *kind, name.as_deref(), &programs)?;
        if let Some(algorithm) = compression.filter(|_| made.has_memory()) {
            compress::begin(&made.directory, algorithm, self.hypeman())?;
        }
        Ok(made)
    }

    /// Imports a snapshot that somebody else's Cloud Hypervisor wrote. Of files outside its
    /// directory it takes those in `allowed`.
    ///
    /// # Errors
    /// When it cannot be read, or names a file that it may not have; nothing is left then.
    pub fn import_snapshot(
        &self,
        directory: &Path,
        name: &str,
        allowed: &[PathBuf],
        log: LogLimits,
    ) -> Result<Snapshot> {
        foreign::import(&self.snapshots(), directory, name, allowed, log)
    }

    /// Lists all snapshots, oldest first, and the records that could not be read.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn list_snapshots(&self) -> Result<(Vec<Snapshot>, Vec<Error>)> {
        self.snapshots().list()
    }

    /// Finds the only snapshot with this name, or whose id begins so; `of` an instance, if one is
    /// given.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or [`Error::Ambiguous`].
    pub fn snapshot(&self, query: &str, of: Option<&Instance>) -> Result<Snapshot> {
        self.snapshots().find(query, of)
    }

    /// Restores an instance from a snapshot of it.
    ///
    /// # Errors
    /// When it runs, or the snapshot cannot be used; the instance is as before then.
    pub fn restore_snapshot(&self, instance: &str, snapshot: &str, resume: Resume) -> Result<Instance> {
        let instance = self.find(instance)?;
        let snapshot = self.snapshot(snapshot, Some(&instance))?;
        let Resume { state, hypervisor } = resume;
        rewind::rewind(&self.instances, &instance, &snapshot, state, hypervisor, &self.programs()?)?;
        Ok(instance)
    }

    /// Makes an instance of a snapshot.
    ///
    /// # Errors
    /// When the name is taken, or the snapshot cannot be used; nothing is left then.
    pub fn fork_snapshot(&self, snapshot: &str, name: &str, resume: Resume) -> Result<Instance> {
        let snapshot = self.snapshot(snapshot, None)?;
        let Resume { state, hypervisor } = resume;
        fork::fork_snapshot(&self.instances, &snapshot, name, state, hypervisor, &self.programs()?)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// When there is none, or it cannot be removed.
    pub fn remove_snapshot(&self, query: &str) -> Result<()> {
        self.snapshots().remove(query)
    }
}
