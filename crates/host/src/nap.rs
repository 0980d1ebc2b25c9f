//! Naps: a VM sleeps while something is done with its machine, and goes on afterwards, also when
//! the process that does it is killed meanwhile: then the next that looks wakes it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Existing, Lock};
use hypeman_record::names;
use hypeman_record::state::State;
use hypeman_snapshot::standby;

use crate::error::Result;
use crate::instance::Instance;
use crate::pause::pause;
use crate::processes::{Holder, look};
use crate::spawn::Programs;
use crate::standby as sleep;
use crate::store::Store;

/// Word in the mark of a VM that someone had paused.
const PAUSED: &str = "paused";

/// The mark of a VM that naps: a file, locked by the process that will wake it.
#[derive(Debug)]
pub(crate) struct Nap {
    path: PathBuf,
    held: Lock,
}

impl Nap {
    /// Marks an instance that is about to be put to standby in this state.
    pub(crate) fn begin(instance: &Instance, state: State) -> Result<Nap> {
        let (directory, path) = (&instance.directory, instance.directory.join(names::NAP));
        let mut file = tempfile::Builder::new().prefix(".nap-").tempfile_in(directory).at(directory)?;
        if state == State::Paused {
            file.write_all(PAUSED.as_bytes()).at(&path)?;
        }
        // Locked before anyone can see it.
        let held = Lock::inherit(file.as_file().try_clone().at(&path)?).at(&path)?;
        file.persist(&path).map_err(|error| error.error).at(&path)?;
        Ok(Nap { path, held })
    }

    /// Lets the VM go on, as it was before.
    pub(crate) fn wake(self, store: &Store, instance: &Instance, programs: &Programs) -> Result<()> {
        let mut word = String::new();
        File::open(&self.path).and_then(|mut mark| mark.read_to_string(&mut word)).at(&self.path)?;
        sleep::restore(store, instance, programs)?;
        if word == PAUSED {
            pause(instance)?;
        }
        Ok(())
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        let inode = |metadata: std::io::Result<std::fs::Metadata>| metadata.ok().map(|file| file.ino());
        // Another that began meanwhile has a mark of its own there.
        if inode(self.held.file().metadata()) == inode(self.path.metadata()) {
            let _ = std::fs::remove_file(&self.path); // the instance may be gone
        }
    }
}

/// Whether an instance has the mark of a nap, and the process that was to wake it is gone.
pub(crate) fn is_forgotten(directory: &Path) -> bool {
    let path = directory.join(names::NAP);
    path.exists() && matches!(hypeman_files::is_held(&path), Ok(false))
}

/// Takes the mark of a forgotten nap.
fn forgotten(directory: &Path) -> Result<Option<Nap>> {
    let path = directory.join(names::NAP);
    Ok(match Lock::try_acquire_existing(&path)? {
        Existing::Taken(held) => Some(Nap { path, held }),
        Existing::Missing | Existing::Held => None,
    })
}

/// Wakes a VM whose nap was forgotten.
pub(crate) fn wake_forgotten(store: &Store, instance: &Instance, programs: &Programs) -> Result<()> {
    let Some(nap) = forgotten(&instance.directory)? else { return Ok(()) };
    let is_asleep = look(&instance.directory)?.0 == Holder::Nobody && standby::is_whole(&instance.directory);
    if is_asleep {
        tracing::info!("{} goes on: whoever was to wake it is gone", instance.record.name);
        nap.wake(store, instance, programs)?;
    }
    Ok(())
}

/// Forgets that an instance naps, for somebody wants it to sleep. A nap under way is left alone.
pub(crate) fn give_up(instance: &Instance) -> Result<()> {
    forgotten(&instance.directory).map(drop)
}
