//! The instances of a data directory.

use std::path::{Path, PathBuf};

use hypeman_files::Lock;
use hypeman_record::data_dir::DataDir;
use hypeman_record::record::Record;
use hypeman_record::{format, names};

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::name;
use crate::parallel::{in_parallel, processors};

/// The instances of one data directory.
#[derive(Debug, Clone)]
pub struct Store {
    data_dir: DataDir,
}

impl Store {
    /// Returns the instances of a data directory, which need not exist yet.
    #[must_use]
    pub fn new(data_dir: &DataDir) -> Store {
        Store { data_dir: data_dir.clone() }
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// The directory of all instances.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.data_dir.instances()
    }

    /// Waits for the lock under which instances and images appear and disappear.
    ///
    /// # Errors
    /// When the data directory cannot be made or written.
    pub fn lock(&self) -> Result<Lock> {
        Ok(hypeman_files::lock_store(&self.directory())?)
    }

    /// Lists all instances, oldest first, and the records that could not be read.
    ///
    /// # Errors
    /// When the directory of the instances cannot be read. That it is not there is no error.
    pub fn list(&self) -> Result<(Vec<Instance>, Vec<Error>)> {
        let mut instances = Vec::new();
        let mut damaged = Vec::new();
        let directories = hypeman_files::entries(&self.directory())?;
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

    /// Finds the instance with this id, which costs one file; or with this name, or the only one
    /// whose id begins with `query`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or the error of its file when the only candidate
    /// cannot be read.
    pub fn find(&self, query: &str) -> Result<Instance> {
        if name::is_id(query) {
            let directory = self.directory().join(query);
            if let Some(record) = format::read::<Record>(&directory.join(names::RECORD))? {
                return Ok(Instance { record, directory });
            }
        }
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

/// Whether a record that could not be read may be that of `query`: it has its id, or its name is
/// unknown.
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

fn id_of(record: &Path) -> String {
    record.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}
