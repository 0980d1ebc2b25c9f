//! Forks: another machine with the disks, and perhaps the memory, of one that there is, or of a
//! named snapshot.
//!
//! All paths in the directory of an instance are relative to it, so what belongs to the machine is
//! copied as it is. Logs, sockets and what was recorded of its runs are the source's own.

use std::collections::BTreeMap;
use std::path::Path;

use hypeman_files::{AtPath, Draft};
use hypeman_record::format::{self, Envelope};
use hypeman_record::named::Kind;
use hypeman_record::names;
use hypeman_record::record::{Record, Settings};
use hypeman_record::spec::HypervisorKind;
use hypeman_record::state::State;
use hypeman_record::unknown::Unknown;
use hypeman_snapshot::standby;
use jiff::Timestamp;

use crate::create::publish;
use crate::error::{Error, Needs, Result};
use crate::instance::Instance;
use crate::machine::{copy_machine, while_asleep};
use crate::snapshots::Snapshot;
use crate::spawn::Programs;
use crate::store::Store;
use crate::{delete, name, network, standby as sleep, start};

/// State of a fork after it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It runs: it is restored, or boots when there is no memory.
    Running,
    /// It is in standby, with a memory of its own.
    Standby,
    /// It has the disks only.
    Stopped,
}

/// A request for a fork.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForkRequest {
    /// Name of the fork.
    pub name: String,
    /// State of the fork; when absent that of its source, or the one that a snapshot was made for.
    pub state: Option<Target>,
    /// Tags of the fork; those of its source are not inherited.
    pub tags: BTreeMap<String, String>,
}

/// Forks the instance `source`. One that runs is put to standby, copied, and resumed.
///
/// # Errors
/// When the source has no memory to go on from and one was asked for, the name is taken, or the
/// disk is full. Nothing of the fork is left then, and the source is as it was.
pub fn fork(
    store: &Store,
    source: &Instance,
    request: &ForkRequest,
    programs: &Programs,
) -> Result<Instance> {
    name::check(&request.name)?;
    let state = source.observe()?.state;
    let target = request.state.unwrap_or(match state {
        State::Created | State::Stopped => Target::Stopped,
        State::Standby => Target::Standby,
        _ => Target::Running,
    });
    if target == Target::Standby && matches!(state, State::Created | State::Stopped) {
        return Err(source.refused(state, Needs::Memory));
    }
    let fork = while_asleep(store, source, programs, |source| {
        let unknown = format::unknown::<Record>(&source.directory.join(names::RECORD))?;
        copy(store, &source.directory, (&source.record, &unknown), request, target)
    })?;
    begin_or_remove(store, fork, target, programs)
}

/// Starts a fork, if it is to run; one that cannot start is removed.
fn begin_or_remove(store: &Store, fork: Instance, target: Target, programs: &Programs) -> Result<Instance> {
    match begin(store, &fork, target, programs) {
        Ok(()) => Ok(fork),
        Err(error) => {
            delete::clear_away(&fork);
            Err(error)
        }
    }
}

/// Makes an instance of a named snapshot; on another hypervisor, if one is given.
///
/// # Errors
/// As [`fork`]; and when a snapshot with memory is to change its hypervisor.
pub fn fork_snapshot(
    store: &Store,
    snapshot: &Snapshot,
    request: &ForkRequest,
    hypervisor: Option<HypervisorKind>,
    programs: &Programs,
) -> Result<Instance> {
    name::check(&request.name)?;
    let target = check_target(snapshot, request.state)?;
    if target != Target::Stopped && snapshot.has_memory() {
        standby::manifest(&snapshot.directory)?; // before anything is copied
    }
    let source = Record { settings: settings(snapshot, hypervisor)?, ..snapshot.record.source.clone() };
    let unknown = snapshot.unknown_of_source()?;
    let fork = copy(store, &snapshot.directory, (&source, &unknown), request, target)?;
    begin_or_remove(store, fork, target, programs)
}

/// Returns the state of a fork after it is made, if the snapshot allows it.
pub(crate) fn check_target(snapshot: &Snapshot, target: Option<Target>) -> Result<Target> {
    let usual = if snapshot.has_memory() { Target::Running } else { Target::Stopped };
    match target.unwrap_or(usual) {
        Target::Standby if !snapshot.has_memory() => Err(Error::NoMemory(snapshot.record.id.clone())),
        target => Ok(target),
    }
}

/// The settings of what comes of a snapshot. Memory and devices are understood only by the
/// hypervisor that has written them.
pub(crate) fn settings(snapshot: &Snapshot, hypervisor: Option<HypervisorKind>) -> Result<Settings> {
    let settings = snapshot.record.source.settings.clone();
    match hypervisor {
        Some(other) if other != settings.hypervisor && snapshot.record.kind == Kind::Standby => {
            Err(Error::BoundToHypervisor(snapshot.record.id.clone()))
        }
        Some(other) if other != settings.hypervisor => {
            Ok(Settings { hypervisor: other, program: None, ..settings })
        }
        _ => Ok(settings),
    }
}

/// Lets what was copied run, if it is to.
pub(crate) fn begin(store: &Store, instance: &Instance, target: Target, programs: &Programs) -> Result<()> {
    match (target, standby::is_whole(&instance.directory)) {
        (Target::Running, true) => sleep::restore(store, instance, programs).map(drop),
        (Target::Running, false) => start::start(store, instance, programs).map(drop),
        (Target::Standby | Target::Stopped, _) => Ok(()),
    }
}

/// Copies a machine to an instance of its own, with the record of which that comes.
fn copy(
    store: &Store,
    from: &Path,
    (source, unknown): (&Record, &Unknown),
    request: &ForkRequest,
    target: Target,
) -> Result<Instance> {
    let draft = Draft::begin(&store.directory())?;
    copy_machine(from, draft.path(), target != Target::Stopped && standby::is_whole(from))?;
    let record = Record {
        id: name::new_id()?,
        name: request.name.clone(),
        tags: request.tags.clone(),
        created: Timestamp::now(),
        settings: Settings { network: network::of_fork(&source.settings.network), ..source.settings.clone() },
        envelope: Envelope::from::<Record>(&[&source.envelope]),
        ..source.clone()
    };
    format::write_with(&draft.path().join(names::RECORD), &record, std::slice::from_ref(unknown))?;
    let logs = draft.path().join(names::LOGS);
    std::fs::create_dir(&logs).at(&logs)?;
    publish(store, draft, record, true)
}
