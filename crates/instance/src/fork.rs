//! Forks: another machine with the disks, and perhaps the memory, of one that there is.
//!
//! All paths in the directory of an instance are relative to it, so what belongs to the machine is copied as it is. Logs, sockets
//! and what was recorded of its runs are the source's own.

use std::path::Path;

use hypeman_files::{AtPath, Draft, Lock, copy_sparse, sync_directory};
use hypeman_record::format::{self, Envelope};
use hypeman_record::names;
use hypeman_record::record::Record;
use hypeman_record::state::State;
use hypeman_snapshot::standby;
use jiff::Timestamp;

use crate::adopt::adopt;
use crate::create::publish;
use crate::error::{Error, Needs, Result};
use crate::observe::{self, Holder};
use crate::start::{self, Programs};
use crate::store::{Instance, Store};
use crate::{layout, name, standby as sleep};

/// What becomes of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It runs: it goes on, or boots when there is no memory to go on from.
    Running,
    /// It sleeps, with a memory of its own.
    Standby,
    /// It has the disks only.
    Stopped,
}

/// Makes an instance `name` of `source`, in the state that was asked for, or else in that of its source. A source that runs is put to
/// standby, copied, and let go on.
///
/// # Errors
/// When the source has no memory to go on from and one was asked for, the name is taken, or the disk is full. Nothing of the fork is left
/// then, and the source is as it was. When only the fork's start fails, the fork stays.
pub fn fork(
    store: &Store,
    source: &Instance,
    name: &str,
    target: Option<Target>,
    programs: &Programs,
) -> Result<Instance> {
    name::check(name)?;
    adopt(source, &programs.hypeman)?;
    let state = source.observe()?.state;
    let target = target.unwrap_or(match state {
        State::Created | State::Stopped => Target::Stopped,
        State::Standby => Target::Standby,
        _ => Target::Running,
    });
    let copied = if state.is_active() {
        sleep::standby(source, &programs.hypeman)?;
        let copied = copy(store, source, name, target);
        let restored = sleep::restore(store, source, programs);
        let copied = copied?;
        restored?;
        copied
    } else {
        copy(store, source, name, target)?
    };
    match (target, standby::is_whole(&copied.directory)) {
        (Target::Running, true) => drop(sleep::restore(store, &copied, programs)?),
        (Target::Running, false) => drop(start::start(store, &copied, programs)?),
        (Target::Standby | Target::Stopped, _) => {}
    }
    Ok(copied)
}

/// Copies a source that does not run, and keeps it from running meanwhile.
fn copy(store: &Store, source: &Instance, name: &str, target: Target) -> Result<Instance> {
    let _unchanged: Lock = source.lock()?;
    let state = source.observe()?.state;
    let refused = |needs| Err(Error::State { name: source.record.name.clone(), state, needs });
    let has_memory = match (state, target) {
        _ if observe::look(&source.directory)?.0 != Holder::Nobody => return refused(Needs::Stopped),
        (State::Standby, _) => target != Target::Stopped,
        (_, Target::Standby) => return refused(Needs::Memory),
        _ => false,
    };
    let draft = Draft::begin(&layout::instances(store.data_dir()))?;
    copy_machine(&source.directory, draft.path(), has_memory)?;
    let record = Record {
        id: name::new_id()?,
        name: name.to_owned(),
        created: Timestamp::now(),
        envelope: Envelope::of::<Record>(),
        ..source.record.clone()
    };
    format::write(&draft.path().join(names::RECORD), &record)?;
    std::fs::create_dir(draft.path().join(names::LOGS)).at(draft.path())?;
    publish(store, draft, record, true)
}

/// Copies what belongs to the machine: its disks, a kernel of its own, and its memory if that is wanted.
pub(crate) fn copy_machine(from: &Path, to: &Path, with_memory: bool) -> Result<()> {
    for file in [names::KERNEL, names::INITRD] {
        if from.join(file).exists() {
            copy_sparse(&from.join(file), &to.join(file))?;
        }
    }
    copy_directory(&from.join(names::DISKS), &to.join(names::DISKS))?;
    if with_memory {
        copy_directory(&from.join(standby::WHOLE), &to.join(standby::WHOLE))?;
    }
    Ok(())
}

/// Copies the files of a directory, which survive a power cut then.
fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to).at(to)?;
    for entry in std::fs::read_dir(from).at(from)? {
        let entry = entry.at(from)?;
        let target = to.join(entry.file_name());
        copy_sparse(&entry.path(), &target)?;
        std::fs::File::open(&target).and_then(|copy| copy.sync_all()).at(&target)?;
    }
    Ok(sync_directory(to)?)
}
