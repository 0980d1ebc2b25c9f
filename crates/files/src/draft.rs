//! Directories in which something is made before it gets its name, and the end of what killed
//! processes leave of them.
//!
//! A store is a directory with a lock (`.lock`) and hidden entries beside those that have names:
//! `.new-*` is being made by the process that holds the lock in it, `.removed-*` is on its way out.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::error::{AtPath, Result};
use crate::lock::{Existing, Lock};
use crate::records::sync_directory;

/// The lock in a draft. What is made lies beside it and gets its name without it, or is the whole
/// directory.
const LOCK: &str = "lock";

/// Number of further tries of a removal in which somebody still makes something, and the pause
/// before each.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A hidden directory in a store. It goes away with this, or with the next draft when its process
/// is killed.
#[derive(Debug)]
pub struct Draft {
    directory: tempfile::TempDir,
    _lock: Lock,
}

impl Draft {
    /// Begins a draft in `store`, which is made when it is missing.
    ///
    /// # Errors
    /// When the store cannot be written, or the disk is full.
    pub fn begin(store: &Path) -> Result<Draft> {
        let held = lock_store(store)?;
        sweep(store, &held)?;
        let directory = tempfile::Builder::new().prefix(".new-").tempdir_in(store).at(store)?;
        let lock = Lock::acquire(&directory.path().join(LOCK))?;
        Ok(Draft { directory, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Gives the whole directory its name, `path` in the same store.
    ///
    /// # Errors
    /// When there is something of that name; then the draft is gone.
    pub fn publish(self, path: &Path) -> Result<()> {
        std::fs::rename(self.path(), path).at(path)?;
        let _ = self.directory.keep(); // it is not there any more
        sync_directory(path.parent().unwrap_or(path))
    }
}

/// The entries of a store that have their names; none when there is no store.
///
/// # Errors
/// When it cannot be read.
pub fn entries(store: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = match std::fs::read_dir(store) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at(store),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.at(store)?;
        // Hidden ones are being made or removed.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// Waits for the lock of a store, which is made when it is missing.
///
/// # Errors
/// When the store cannot be written.
pub fn lock_store(store: &Path) -> Result<Lock> {
    std::fs::create_dir_all(store).at(store)?;
    Lock::acquire(&store.join(".lock"))
}

/// Removes an entry of a store: out of sight first, so that nobody meets half of it.
///
/// # Errors
/// When it is not there, or cannot be removed.
pub fn remove_entry(store: &Path, entry: &Path, held: &Lock) -> Result<()> {
    sweep(store, held)?;
    remove_directory(entry, held)
}

/// Renames a directory out of sight, and removes it. `_held` is the lock under which nobody uses it
/// meanwhile.
///
/// # Errors
/// When it cannot be renamed or removed.
pub fn remove_directory(directory: &Path, _held: &Lock) -> Result<()> {
    // A name that is nobody's, for nothing can be made on a full disk.
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let doomed = directory.with_file_name(format!(".removed-{name}-{}", std::process::id()));
    std::fs::rename(directory, &doomed).at(directory)?;
    let mut tries = 0..TRIES;
    loop {
        return match std::fs::remove_dir_all(&doomed) {
            // Somebody is still at work in it, by descriptors: it cannot be found any more.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && tries.next().is_some() => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()), // swept away by another meanwhile
            removed => removed.at(&doomed),
        };
    }
}

/// Removes what killed processes have left in a store.
fn sweep(store: &Path, _held: &Lock) -> Result<()> {
    for entry in std::fs::read_dir(store).at(store)? {
        let entry = entry.at(store)?;
        let name = entry.file_name();
        let is = |prefix: &[u8]| name.as_encoded_bytes().starts_with(prefix);
        // The maker of something holds the lock of its draft from before it is visible.
        let abandoned = || {
            let lock = Lock::try_acquire_existing(&entry.path().join(LOCK));
            matches!(lock, Ok(Existing::Taken(_) | Existing::Missing))
        };
        if is(b".removed-") || (is(b".new-") && abandoned()) {
            let _ = std::fs::remove_dir_all(entry.path()); // tried again by the next
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(store: &Path) -> usize {
        let names = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with('.') && name != ".lock").count()
    }

    #[test]
    fn a_draft_whose_maker_lives_stays_and_one_whose_maker_was_killed_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path().join("store");
        let draft = Draft::begin(&store).unwrap();
        for left in [".new-1", ".removed-1"] {
            std::fs::create_dir(store.join(left)).unwrap();
            std::fs::write(store.join(left).join("lock"), "").unwrap();
        }
        let second = Draft::begin(&store).unwrap();
        assert!(draft.path().exists() && hidden(&store) == 2, "{}", hidden(&store));
        drop((draft, second));
        assert_eq!(hidden(&store), 0);
    }

    #[test]
    fn an_entry_is_removed_whatever_an_earlier_remover_has_left() {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path();
        for name in ["entry", ".removed-entry"] {
            std::fs::create_dir(store.join(name)).unwrap();
            std::fs::write(store.join(name).join("file"), "x").unwrap();
        }
        remove_entry(store, &store.join("entry"), &lock_store(store).unwrap()).unwrap();
        assert!(!store.join("entry").exists());
        assert_eq!(hidden(store), 0);
    }
}
