//! Named snapshots: copies of an instance's machine, in a store of their own, which outlive their
//! instance.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Draft};
use hypeman_record::data_dir::DataDir;
use hypeman_record::format::{self, Envelope};
use hypeman_record::named::{Kind, NamedSnapshot};
use hypeman_record::names;
use hypeman_record::record::Record;
use hypeman_record::state::State;
use hypeman_record::unknown::Unknown;
use hypeman_snapshot::{Algorithm, standby};
use jiff::Timestamp;

use crate::error::{Error, Field, Needs, Result, invalid};
use crate::instance::Instance;
use crate::machine::{copy_machine, while_asleep};
use crate::name;
use crate::spawn::Programs;
use crate::store::Store;

/// The record in a snapshot's directory.
const RECORD: &str = "named.json";

/// The field of its record with that of its instance.
const SOURCE: &str = "source";

/// A request for a snapshot of an instance.
#[derive(Debug, Clone, Default)]
pub struct SnapshotRequest {
    /// Its name, if it is to have one.
    pub name: Option<String>,
    /// With memory or without; what the instance has when absent.
    pub kind: Option<Kind>,
    /// Its tags, by key.
    pub tags: BTreeMap<String, String>,
    /// How its memory is compressed, in the background.
    pub compression: Option<Algorithm>,
}

/// A named snapshot on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its record.
    pub record: NamedSnapshot,
    /// Absolute path of its directory.
    pub directory: PathBuf,
}

/// The named snapshots of one data directory.
#[derive(Debug, Clone)]
pub struct Snapshots {
    directory: PathBuf,
}

impl Snapshots {
    /// Returns the snapshots of a data directory, which need not exist yet.
    #[must_use]
    pub fn new(data_dir: &DataDir) -> Snapshots {
        Snapshots { directory: data_dir.snapshots() }
    }

    /// Lists all snapshots, oldest first, and the records that could not be read.
    ///
    /// # Errors
    /// When the directory cannot be read. That it is not there is no error.
    pub fn list(&self) -> Result<(Vec<Snapshot>, Vec<Error>)> {
        let (mut snapshots, mut damaged) = (Vec::new(), Vec::new());
        for directory in hypeman_files::entries(&self.directory)? {
            match format::read::<NamedSnapshot>(&directory.join(RECORD)) {
                Ok(Some(record)) => snapshots.push(Snapshot { record, directory }),
                Ok(None) => {} // being removed
                Err(error) => damaged.push(error.into()),
            }
        }
        snapshots.sort_by_cached_key(|snapshot| (snapshot.record.created, snapshot.record.id.clone()));
        Ok((snapshots, damaged))
    }

    /// Finds the only snapshot with this name, or whose id begins so; `of` an instance, if one is
    /// given.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or [`Error::Ambiguous`].
    pub fn find(&self, query: &str, of: Option<&Instance>) -> Result<Snapshot> {
        let (snapshots, damaged) = self.list()?;
        let is_meant = |snapshot: &&Snapshot| {
            let record = &snapshot.record;
            of.is_none_or(|instance| instance.record.id == record.source.id)
                && (record.name.as_deref() == Some(query)
                    || !query.is_empty() && record.id.starts_with(query))
        };
        let mut meant = snapshots.iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(snapshot), None) => Ok(snapshot.clone()),
            (Some(first), Some(second)) => {
                let ids = [first, second].into_iter().chain(meant).map(|other| other.record.id.clone());
                let ids = ids.collect::<Vec<_>>().join(", ");
                Err(Error::Ambiguous { query: query.to_owned(), ids })
            }
            (None, _) => {
                let damaged = damaged.into_iter().next();
                Err(damaged.unwrap_or_else(|| Error::NoSnapshot(query.to_owned())))
            }
        }
    }

    /// Makes a snapshot of an instance, of the requested kind, or else of what the instance has. A
    /// running one is put to standby, copied, and resumed.
    ///
    /// # Errors
    /// When the instance has no memory and some was asked for, or runs and only its disks were
    /// asked for, or the name is taken, or the disk is full; nothing is left then.
    pub fn create(
        &self,
        store: &Store,
        source: &Instance,
        request: &SnapshotRequest,
        programs: &Programs,
    ) -> Result<Snapshot> {
        if let Some(name) = &request.name {
            name::check(name)?;
        }
        let state = source.observe()?.state;
        let kind = request.kind.unwrap_or(match state {
            State::Created | State::Stopped => Kind::Stopped,
            _ => Kind::Standby,
        });
        let needs = match (state, kind) {
            (State::Created | State::Stopped, Kind::Standby) => Some(Needs::Memory),
            (State::Created | State::Stopped, Kind::Stopped) | (_, Kind::Standby) => None,
            (_, Kind::Stopped) => Some(Needs::Stopped),
        };
        if let Some(needs) = needs {
            return Err(source.refused(state, needs));
        }
        while_asleep(store, source, programs, |source| self.copy(source, kind, request))
    }

    fn copy(&self, source: &Instance, kind: Kind, request: &SnapshotRequest) -> Result<Snapshot> {
        let draft = self.draft()?;
        copy_machine(&source.directory, draft.path(), kind == Kind::Standby)?;
        let record = NamedSnapshot {
            id: name::new_id()?,
            name: request.name.clone(),
            kind,
            created: Timestamp::now(),
            tags: request.tags.clone(),
            source: source.record.clone(),
            envelope: Envelope::of::<NamedSnapshot>(),
        };
        let unknown = format::unknown::<Record>(&source.directory.join(names::RECORD))?;
        self.publish(draft, record, &unknown.as_part(SOURCE))
    }

    /// Begins a snapshot.
    pub(crate) fn draft(&self) -> Result<Draft> {
        Ok(Draft::begin(&self.directory)?)
    }

    /// Gives a snapshot its place, when its name is free.
    pub(crate) fn publish(&self, draft: Draft, record: NamedSnapshot, unknown: &Unknown) -> Result<Snapshot> {
        format::write_with(&draft.path().join(RECORD), &record, std::slice::from_ref(unknown))?;
        let _held = hypeman_files::lock_store(&self.directory)?;
        let (others, _) = self.list()?;
        let is_taken = |other: &Snapshot| {
            record.name.is_some()
                && (&other.record.name, &other.record.source.id) == (&record.name, &record.source.id)
        };
        if others.iter().any(is_taken) {
            let reason = format!("{} has a snapshot of that name", record.source.name);
            return invalid(Field::SnapshotName, record.name.unwrap_or_default(), &reason);
        }
        let directory = self.directory.join(&record.id);
        draft.publish(&directory)?;
        Ok(Snapshot { record, directory })
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// When there is none, or it cannot be removed.
    pub fn remove(&self, query: &str) -> Result<()> {
        let held = hypeman_files::lock_store(&self.directory)?;
        Ok(hypeman_files::remove_entry(&self.directory, &self.find(query, None)?.directory, &held)?)
    }
}

impl Snapshot {
    /// Returns fields that a newer release has added to parts of the instance's record.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(crate) fn unknown_of_source(&self) -> Result<Unknown> {
        Ok(format::unknown::<NamedSnapshot>(&self.directory.join(RECORD))?.of_part(SOURCE))
    }

    /// Returns its size on disk now, in bytes.
    ///
    /// # Errors
    /// When its files cannot be looked at.
    pub fn room(&self) -> Result<u64> {
        room(&self.directory)
    }

    /// Whether a VM can be restored from it.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        standby::is_whole(&self.directory)
    }
}

/// Returns the size on disk of the files of a directory, in bytes, without holes.
fn room(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).at(directory)? {
        let entry = entry.at(directory)?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => room(&entry.path())?,
            Ok(metadata) => metadata.blocks() * 512,
            // A file that was compressed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Ok(Err(error).at(&entry.path())?),
        };
    }
    Ok(bytes)
}
