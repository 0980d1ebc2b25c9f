//! Marks of VMs that sleep only while something is done with their machine. When the process that
//! does it is killed, the mark tells the next that looks to wake the VM.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Existing, Lock};
use hypeman_record::names;
use hypeman_record::state::State;

use crate::error::Result;
use crate::instance::Instance;

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

    /// Whether someone had paused the VM before.
    pub(crate) fn was_paused(&self) -> Result<bool> {
        Ok(std::fs::read_to_string(&self.path).at(&self.path)? == PAUSED)
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
pub(crate) fn forgotten(directory: &Path) -> Result<Option<Nap>> {
    let path = directory.join(names::NAP);
    Ok(match Lock::try_acquire_existing(&path)? {
        Existing::Taken(held) => Some(Nap { path, held }),
        Existing::Missing | Existing::Held => None,
    })
}

/// Forgets that an instance naps, for somebody wants it to sleep. A nap under way is left alone.
pub(crate) fn give_up(instance: &Instance) -> Result<()> {
    forgotten(&instance.directory).map(drop)
}
