//! Documents that describe instances and snapshots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hypeman_record::end::End;
use hypeman_record::guest::health::Health;
use hypeman_record::named::Kind;
use hypeman_record::names;
use hypeman_record::network::{Lease, Published};
use hypeman_record::record::Record;
use hypeman_record::run::Run;
use hypeman_record::spec::HypervisorKind;
use hypeman_record::state::State;
use hypeman_snapshot::summary::Summary;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::Result;
use crate::host::Host;
use crate::instance::Instance;
use crate::network;
use crate::snapshots::Snapshot;

/// All that is known of an instance.
#[derive(Debug, Serialize)]
pub struct InstanceView {
    /// The user's settings.
    #[serde(flatten)]
    pub record: Record,
    /// Its state.
    pub state: State,
    /// Explanation of an unusual state.
    pub state_reason: Option<String>,
    /// Result of its program's health checks, if there are any and it runs.
    pub health: Option<Health>,
    /// Whether a shim keeps its console.
    pub supervised: bool,
    /// The release of that shim, if it tells.
    pub shim_release: Option<String>,
    /// Its address, if it is on a network.
    pub lease: Option<Lease>,
    /// The last run: pids, VMM, accelerator in use, times.
    pub run: Option<Run>,
    /// How the last run ended, also when no shim was left to record it.
    pub end: Option<End>,
    /// The memory that it can go on from, if it has some.
    pub snapshot: Option<Summary>,
    /// Absolute path of its directory.
    pub directory: PathBuf,
    /// Paths of its logs.
    pub logs: Logs,
}

/// Paths of the logs of an instance.
#[derive(Debug, Serialize)]
pub struct Logs {
    /// Log of its guest's console.
    pub app: PathBuf,
    /// Log of its VMM's output.
    pub vmm: PathBuf,
    /// Log of hypeman's own actions.
    pub hypeman: PathBuf,
}

/// Description of a snapshot, in upstream's words.
#[derive(Debug, Serialize)]
pub struct SnapshotView {
    /// Its id.
    pub id: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// With memory or without.
    pub kind: Kind,
    /// When it was made.
    pub created_at: Timestamp,
    /// The user's tags, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Room that it takes; holes take none.
    pub size_bytes: u64,
    /// Id of the instance that it was made of.
    pub source_instance_id: String,
    /// Name of that instance then.
    pub source_instance_name: String,
    /// Hypervisor of that instance.
    pub source_hypervisor: HypervisorKind,
    /// Its memory, if it has some.
    pub memory: Option<Summary>,
}

impl Instance {
    /// Paths of its logs.
    #[must_use]
    pub fn logs(&self) -> Logs {
        let log = |name| self.directory.join(name);
        Logs { app: log(names::APP_LOG), vmm: log(names::VMM_LOG), hypeman: log(names::HYPEMAN_LOG) }
    }
}

impl Host {
    /// All that is known of an instance.
    ///
    /// # Errors
    /// As [`Host::find`] and [`Host::observe`].
    pub fn inspect(&self, query: &str) -> Result<InstanceView> {
        let instance = self.find(query)?;
        let seen = self.observe(&instance)?;
        Ok(InstanceView {
            state: seen.state,
            state_reason: seen.reason,
            health: seen.health,
            supervised: seen.supervised,
            shim_release: seen.shim_release,
            lease: network::lease(&instance.directory)?,
            run: seen.run,
            end: seen.end,
            snapshot: Summary::of(&instance.directory),
            logs: instance.logs(),
            directory: instance.directory,
            record: instance.record,
        })
    }

    /// Returns the address of an instance, if it is on a network.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn lease(&self, instance: &Instance) -> Result<Option<Lease>> {
        network::lease(&instance.directory)
    }

    /// The published ports of an instance, as they can be reached now; none when it does not run.
    ///
    /// # Errors
    /// As [`Host::find`] and [`Host::observe`].
    pub fn ports(&self, query: &str) -> Result<Vec<Published>> {
        let seen = self.observe(&self.find(query)?)?;
        let run = seen.run.filter(|_| seen.state.is_active());
        Ok(run.map(|run| run.published).unwrap_or_default())
    }
}

impl Snapshot {
    /// Returns its description.
    ///
    /// # Errors
    /// When its files cannot be looked at.
    pub fn view(&self) -> Result<SnapshotView> {
        let record = &self.record;
        Ok(SnapshotView {
            memory: Summary::of(&self.directory),
            id: record.id.clone(),
            name: record.name.clone(),
            kind: record.kind,
            created_at: record.created,
            tags: record.tags.clone(),
            size_bytes: self.room()?,
            source_instance_id: record.source.id.clone(),
            source_instance_name: record.source.name.clone(),
            source_hypervisor: record.source.settings.hypervisor,
        })
    }

    /// Why its memory cannot be read, if it has some.
    #[must_use]
    pub fn damage(&self) -> Option<hypeman_snapshot::Error> {
        let manifest = self.has_memory().then(|| hypeman_snapshot::standby::manifest(&self.directory));
        manifest?.err()
    }
}
