//! One host: its data directory, its programs, and by one function each all that can be done there.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hypeman_image::kernel::Kernels;
use hypeman_network::Networks;
use hypeman_record::data_dir::DataDir;
use hypeman_record::state::State;
use hypeman_vmm::findings::Findings;

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::observe::{Observation, observe_all};
use crate::snapshots::Snapshots;
use crate::spawn::Programs;
use crate::store::Store;
use crate::watch::Watch;
use crate::{adopt, config::Config, layout, machine, nap};

/// A host with its data directory. Its functions block; they may be called from many threads at
/// once, and beside other processes that do the same. Where a function takes the name of an
/// instance, it also takes its id, or the beginning of that.
#[derive(Debug, Clone)]
pub struct Host {
    config: Config,
    pub(crate) instances: Store,
}

impl Host {
    /// Opens a data directory, and takes from others what releases before have left open to them.
    ///
    /// # Errors
    /// [`Error::NoDataDir`] when it has to be there and is not; [`Error::DataDirOfAnother`]; or
    /// when it cannot be used.
    pub fn open(config: Config) -> Result<Host> {
        check(&config)?;
        layout::make_private(&config.data_dir)?;
        Ok(Host { instances: Store::new(&config.data_dir), config })
    }

    /// Returns its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &DataDir {
        &self.config.data_dir
    }

    /// Finds our programs that a start needs.
    ///
    /// # Errors
    /// [`Error::NoGuestInit`] when there is no `hypeman-init`.
    pub fn programs(&self) -> Result<Programs> {
        let Config { hypeman, init, .. } = &self.config;
        match init.is_file() {
            true => Ok(Programs { hypeman: hypeman.clone(), init: init.clone() }),
            false => Err(Error::NoGuestInit(init.clone())),
        }
    }

    /// Lists all instances, oldest first, and the records that could not be read.
    ///
    /// # Errors
    /// When the directory of the instances cannot be read. That it is not there is no error.
    pub fn list(&self) -> Result<(Vec<Instance>, Vec<Error>)> {
        self.instances.list()
    }

    /// Finds the instance with this name, with this id, or the only one whose id begins so.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or the error of its file when the only candidate
    /// cannot be read.
    pub fn find(&self, query: &str) -> Result<Instance> {
        self.instances.find(query)
    }

    /// As [`Host::find`], and adopts its VM if that has no shim.
    ///
    /// # Errors
    /// As [`Host::find`].
    pub fn find_adopted(&self, query: &str) -> Result<Instance> {
        let instance = self.find(query)?;
        self.take_care_of(&instance);
        Ok(instance)
    }

    /// Returns the state of an instance, and adopts its VM if it has no shim.
    ///
    /// # Errors
    /// When its directory cannot be read. A shim that does not answer is no error but the state
    /// `Unknown`.
    pub fn observe(&self, instance: &Instance) -> Result<Observation> {
        self.with_shim(instance, instance.observe())
    }

    /// As [`Host::observe`], for several at once: a silent one does not delay the others.
    pub fn observe_all(&self, instances: &[Instance]) -> Vec<Result<Observation>> {
        let seen = observe_all(instances);
        instances.iter().zip(seen).map(|(instance, seen)| self.with_shim(instance, seen)).collect()
    }

    /// Watches an instance.
    ///
    /// # Errors
    /// As [`Host::find`].
    pub fn watch(&self, query: &str) -> Result<Watch> {
        Ok(Watch::new(self.find(query)?, self.hypeman()))
    }

    fn with_shim(&self, instance: &Instance, seen: Result<Observation>) -> Result<Observation> {
        let wants_care = seen.as_ref().is_ok_and(|seen| {
            let may_nap = seen.supervised || seen.state == State::Standby;
            seen.orphaned || may_nap && nap::is_forgotten(&instance.directory)
        });
        if wants_care && self.take_care_of(instance) { instance.observe() } else { seen }
    }

    /// Adopts a VM without a shim, wakes one whose nap was forgotten, and returns whether it has a
    /// shim then. A failure is traced: the VM can be looked at all the same.
    fn take_care_of(&self, instance: &Instance) -> bool {
        let adopted = adopt::adopt(instance, &self.config.hypeman).and_then(|_| {
            match nap::is_forgotten(&instance.directory) {
                true => machine::wake_forgotten(&self.instances, instance, &self.programs()?),
                false => Ok(()),
            }
        });
        if let Err(error) = &adopted {
            tracing::warn!("{}", hypeman_files::with_causes(error));
        }
        adopted.is_ok()
    }

    pub(crate) fn hypeman(&self) -> &Path {
        &self.config.hypeman
    }

    pub(crate) fn images(&self) -> hypeman_image::Store {
        hypeman_image::Store::new(&self.config.data_dir).with_most(self.config.max_image_size)
    }

    pub(crate) fn kernels(&self) -> Kernels {
        Kernels::new(&self.config.data_dir)
    }

    pub(crate) fn networks(&self) -> Networks {
        Networks::new(&self.config.data_dir)
    }

    pub(crate) fn snapshots(&self) -> Snapshots {
        Snapshots::new(&self.config.data_dir)
    }

    pub(crate) fn findings(&self) -> Findings {
        Findings::in_directory(self.config.data_dir.path())
    }
}

/// Refuses a data directory that is not there but has to be, and one that is another user's.
fn check(config: &Config) -> Result<()> {
    let path = config.data_dir.path();
    match std::fs::read_dir(config.data_dir.instances()) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let owner = std::fs::metadata(path).ok().map(|metadata| metadata.uid());
            Err(Error::DataDirOfAnother { path: path.to_owned(), owner })
        }
        Err(_) if config.must_exist && !path.exists() => Err(Error::NoDataDir(path.to_owned())),
        _ => Ok(()),
    }
}
