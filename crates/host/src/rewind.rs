//! An instance is put back to what it was when a named snapshot of it was made.

use hypeman_files::{AtPath, Draft};
use hypeman_record::format::{self, Envelope};
use hypeman_record::names;
use hypeman_record::record::Record;
use hypeman_record::spec::HypervisorKind;
use hypeman_snapshot::standby;
use rustix::fs::{CWD, RenameFlags};

use crate::error::{Error, Result};
use crate::fork::{Target, begin, check_target, settings};
use crate::instance::Instance;
use crate::machine::{copy_machine, locked};
use crate::nap;
use crate::snapshots::Snapshot;
use crate::spawn::Programs;
use crate::store::Store;

/// Puts an instance that does not run back to a snapshot of it; on another hypervisor, if one is
/// given. Its logs go on.
///
/// # Errors
/// When it runs, the snapshot cannot become what was asked for, or the disk is full; it is as it
/// was then. When only its start fails, it is put back.
pub(crate) fn rewind(
    store: &Store,
    instance: &Instance,
    snapshot: &Snapshot,
    target: Option<Target>,
    hypervisor: Option<HypervisorKind>,
    programs: &Programs,
) -> Result<()> {
    let target = check_target(snapshot, target)?;
    let settings = settings(snapshot, hypervisor)?;
    nap::give_up(instance)?;
    let instance = locked(instance, |instance| {
        let envelopes = [&snapshot.record.source.envelope, &instance.record.envelope];
        let record =
            Record { settings, envelope: Envelope::from::<Record>(&envelopes), ..instance.record.clone() };
        let instance = Instance { record, ..instance.clone() };
        replace(store, &instance, snapshot, target).map(|()| instance)
    })?;
    begin(store, &instance, target, programs)
}

fn replace(store: &Store, instance: &Instance, snapshot: &Snapshot, target: Target) -> Result<()> {
    let path = instance.directory.join(names::RECORD);
    let unknown = [snapshot.unknown_of_source()?, format::unknown::<Record>(&path)?];
    let draft = Draft::begin(&store.directory())?;
    let with_memory = target != Target::Stopped && snapshot.has_memory();
    copy_machine(&snapshot.directory, draft.path(), with_memory)?;
    // The memory that it has fits the disks that it has, and goes first. What the snapshot has
    // comes last.
    let failed = |problem| Error::Snapshot { name: instance.record.name.clone(), problem };
    standby::withdraw(&instance.directory).map_err(failed)?;
    let (old, new) = (instance.directory.join(names::DISKS), draft.path().join(names::DISKS));
    rustix::fs::renameat_with(CWD, &new, CWD, &old, RenameFlags::EXCHANGE)
        .map_err(std::io::Error::from)
        .at(&old)?;
    format::write_with(&path, &instance.record, &unknown)?;
    if with_memory {
        let memory = instance.directory.join(standby::WHOLE);
        std::fs::rename(draft.path().join(standby::WHOLE), &memory).at(&memory)?;
    }
    Ok(hypeman_files::sync_directory(&instance.directory)?)
}
