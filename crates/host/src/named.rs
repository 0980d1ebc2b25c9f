//! Named snapshots of a host's instances.

use std::path::{Path, PathBuf};

use hypeman_record::record::LogLimits;
use hypeman_record::spec::HypervisorKind;

use crate::error::{Error, Result};
use crate::fork::{ForkRequest, Target};
use crate::host::Host;
use crate::instance::Instance;
use crate::snapshots::Snapshot;
pub use crate::snapshots::SnapshotRequest;
use crate::{compress, foreign, fork, rewind};

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
        let made = self.snapshots().create(&self.instances, &instance, request, &programs)?;
        if let Some(algorithm) = request.compression.filter(|_| made.has_memory()) {
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

    /// Makes an instance of a snapshot; on another hypervisor, if one is given.
    ///
    /// # Errors
    /// When the name is taken, or the snapshot cannot be used; nothing is left then.
    pub fn fork_snapshot(
        &self,
        snapshot: &str,
        request: &ForkRequest,
        hypervisor: Option<HypervisorKind>,
    ) -> Result<Instance> {
        let snapshot = self.snapshot(snapshot, None)?;
        fork::fork_snapshot(&self.instances, &snapshot, request, hypervisor, &self.programs()?)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// When there is none, or it cannot be removed.
    pub fn remove_snapshot(&self, query: &str) -> Result<()> {
        self.snapshots().remove(query)
    }
}
