//! The instances of a data directory.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use hypeman_files::Lock;
use hypeman_record::record::Record;
use hypeman_record::state::State;
use hypeman_record::{format, names};

use crate::error::{Error, Needs, Result};
use crate::layout;
use crate::observe::{self, Observation};
use crate::parallel::{in_parallel, processors};

/// An instance on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// What the user asked for.
    pub record: Record,
    /// Absolute path of its directory.
    pub directory: PathBuf,
}

impl Instance {
    /// What is true of it now.
    ///
    /// # Errors
    /// As [`observe::observe`].
    pub fn observe(&self) -> Result<Observation> {
        observe::observe(self)
    }

    /// That it is in a state which forbids what was asked for.
    #[must_use]
    pub fn refused(&self, state: State, needs: Needs) -> Error {
        Error::State { name: self.record.name.clone(), state, needs }
    }

    /// Waits for the instance's lock, for a change.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has been removed meanwhile.
    pub fn lock(&self) -> Result<Lock> {
        let gone = || Error::NotFound(self.record.name.clone());
        let lock = match Lock::acquire(&self.directory.join(names::LOCK)) {
            Err(error) if error.is_not_found() => return Err(gone()),
            other => other?,
        };
        // Whoever held it before us may have removed the instance.
        if self.directory.join(names::RECORD).exists() { Ok(lock) } else { Err(gone()) }
    }
}

/// The instances of one data directory.
#[derive(Debug, Clone)]
pub struct Store {
    data_dir: PathBuf,
}

impl Store {
    /// The instances below `data_dir`, which need not exist yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Store {
        Store { data_dir: data_dir.to_owned() }
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Waits for the lock under which instances and images appear and disappear.
    ///
    /// # Errors
    /// When the data directory cannot be made or written.
    pub fn lock(&self) -> Result<Lock> {
        Ok(hypeman_files::lock_store(&layout::instances(&self.data_dir))?)
    }

    /// All instances, oldest first, and with them the records that could not be read.
    ///
    /// # Errors
    /// When the directory of the instances cannot be read. That it is not there is no error.
    pub fn list(&self) -> Result<(Vec<Instance>, Vec<Error>)> {
        let mut instances = Vec::new();
        let mut damaged = Vec::new();
        let directories = hypeman_files::entries(&layout::instances(&self.data_dir))?;
        let records = in_parallel(&directories, processors(), |directory| {
            format::read::<Record>(&directory.join(names::RECORD))
        });
        for (directory, record) in directories.into_iter().zip(records) {
            match record {
                Ok(Some(record)) => instances.push(Instance { record, directory }),
                Ok(None) => {} // being removed
                Err(error) => damaged.push(error.into()),
            }
        }
        instances.sort_by_cached_key(|instance| (instance.record.created, instance.record.id.clone()));
        Ok((instances, damaged))
    }

    /// The instance with this name, or else the only one whose id begins with `query`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or the error of its file when the only candidate cannot be read.
    pub fn find(&self, query: &str) -> Result<Instance> {
        let (instances, damaged) = self.list()?;
        if let Some(instance) = instances.iter().find(|i| i.record.name == query) {
            return Ok(instance.clone());
        }
        let mut matching =
            instances.into_iter().filter(|i| !query.is_empty() && i.record.id.starts_with(query));
        match (matching.next(), matching.next()) {
            (Some(instance), None) => Ok(instance),
            (Some(first), Some(second)) => {
                let ids: Vec<String> =
                    [first, second].into_iter().chain(matching).map(|i| i.record.id).collect();
                Err(Error::Ambiguous { query: query.to_owned(), ids: ids.join(", ") })
            }
            (None, _) => Err(damaged
                .into_iter()
                .find(|error| is_reason_for(error, query))
                .unwrap_or_else(|| Error::NotFound(query.to_owned()))),
        }
    }
}

/// Whether a record that could not be read may be that of `query`: it has its id, or nobody can tell its name.
fn is_reason_for(error: &Error, query: &str) -> bool {
    match error {
        Error::Record(format::Error::Newer { .. }) => true,
        Error::Record(format::Error::Files(hypeman_files::Error::Damaged { path, .. })) => {
            id_of(path).starts_with(query)
        }
        Error::Record(format::Error::Files(hypeman_files::Error::Io { source, .. })) => {
            source.kind() == std::io::ErrorKind::PermissionDenied
        }
        _ => false,
    }
}

/// Whether the instance whose record could not be read may have this name. One of a newer release
/// tells its name as this one does.
pub(crate) fn may_be_named(error: &Error, name: &str) -> bool {
    let Error::Record(error) = error else { return true };
    let text = error.path().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    record["name"].as_str().is_none_or(|other| other == name)
}

/// A way to a socket in `directory` that fits into the 108 bytes of a socket's path (unix(7)), as long as the handle lives.
pub(crate) fn short_path(directory: &Path, socket: &str) -> std::io::Result<(File, String)> {
    let handle = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{socket}", handle.as_raw_fd());
    Ok((handle, path))
}

fn id_of(record: &Path) -> String {
    record.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}
