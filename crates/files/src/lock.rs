//! Advisory locks (flock): released by the kernel when their holder dies, however it dies.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use scopeguard::ScopeGuard;

use crate::error::{AtPath, Result};

/// A held lock; dropping it lets go, also while a child that another thread has just forked has a
/// copy of its descriptor.
#[derive(Debug)]
pub struct Lock {
    file: ScopeGuard<File, fn(File)>,
}

fn unlock(file: File) {
    let _ = file.unlock(); // closing it, which comes next, does the same when nobody has a copy
}

impl Lock {
    fn held(file: File) -> Lock {
        Lock { file: scopeguard::guard(file, unlock) }
    }

    /// Waits for the lock on `path`, making the file when it is missing.
    ///
    /// # Errors
    /// When the file cannot be opened: its directory is gone, or there is no permission.
    pub fn acquire(path: &Path) -> Result<Lock> {
        let file = open(path)?;
        file.lock().at(path)?;
        Ok(Lock::held(file))
    }

    /// Takes the lock when it is free; `None` when someone holds it.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn try_acquire(path: &Path) -> Result<Option<Lock>> {
        let file = open(path)?;
        let taken = try_exclusively(&file).at(path)?;
        Ok(taken.then_some(Lock::held(file)))
    }

    /// Takes the lock when it is free, as [`Lock::try_acquire`] does, but makes no file.
    ///
    /// # Errors
    /// When the file is there and cannot be opened.
    pub fn try_acquire_existing(path: &Path) -> Result<Existing> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Existing::Missing),
            Err(error) => return Err(error).at(path),
        };
        let taken = try_exclusively(&file).at(path)?;
        Ok(if taken { Existing::Taken(Lock::held(file)) } else { Existing::Held })
    }

    /// Takes the lock of a file that another process holds and has passed to us.
    ///
    /// # Errors
    /// When someone else holds it.
    pub fn inherit(file: File) -> std::io::Result<Lock> {
        file.try_lock()?;
        Ok(Lock::held(file))
    }

    /// The locked file, to keep a word in it for people.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl From<Lock> for std::os::fd::OwnedFd {
    /// For another process to hold, which takes it with [`Lock::inherit`].
    fn from(lock: Lock) -> std::os::fd::OwnedFd {
        ScopeGuard::into_inner(lock.file).into()
    }
}

/// Result of taking a lock whose file may be missing.
#[derive(Debug)]
pub enum Existing {
    /// We hold it.
    Taken(Lock),
    /// Someone else does.
    Held,
    /// There is no file.
    Missing,
}

/// Holder of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Nobody ever has: there is no such file.
    Missing,
    /// Nobody now.
    Free,
    /// Someone.
    Held,
}

/// Looks at the lock on `path`.
///
/// # Errors
/// When the file is there and cannot be opened.
pub fn holding(path: &Path) -> Result<Holding> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Holding::Missing),
        Err(error) => return Err(error).at(path),
    };
    // A shared lock, so that two who look at the same time do not take each other for the holder.
    let free = succeeded(file.try_lock_shared()).at(path)?;
    if free {
        file.unlock().at(path)?;
    }
    Ok(if free { Holding::Free } else { Holding::Held })
}

/// Takes the lock, unless someone holds it. A process that only looks (`holding`) has it, shared,
/// for an instant and is no holder.
fn try_exclusively(file: &File) -> std::io::Result<bool> {
    loop {
        if succeeded(file.try_lock())? {
            return Ok(true);
        }
        if !succeeded(file.try_lock_shared())? {
            return Ok(false);
        }
        file.unlock()?;
        std::thread::yield_now();
    }
}

fn succeeded(tried: std::result::Result<(), std::fs::TryLockError>) -> std::io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Whether someone holds the lock on `path`. A missing file is held by no one.
///
/// # Errors
/// When the file is there and cannot be opened.
pub fn is_held(path: &Path) -> Result<bool> {
    Ok(holding(path)? == Holding::Held)
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_while_the_holder_lives_and_free_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!is_held(&path).unwrap());
        let lock = Lock::acquire(&path).unwrap();
        assert!(is_held(&path).unwrap());
        assert!(Lock::try_acquire(&path).unwrap().is_none());
        drop(lock);
        assert!(!is_held(&path).unwrap());
    }

    #[test]
    fn a_copy_of_its_descriptor_does_not_keep_it_but_one_that_was_handed_over_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::acquire(&path).unwrap();
        let _copy = lock.file().try_clone().unwrap(); // as a child has it between fork and exec
        drop(lock);
        let lock = Lock::try_acquire(&path).unwrap().expect("nobody holds it");
        let copy = lock.file().try_clone().unwrap();
        drop(std::os::fd::OwnedFd::from(lock));
        assert!(is_held(&path).unwrap(), "whoever it was handed to");
        drop(copy);
        assert!(!is_held(&path).unwrap());
    }

    #[test]
    fn whoever_only_looks_keeps_nobody_from_taking_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(Lock::acquire(&path).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done() {
                    is_held(&path).unwrap();
                }
            });
            let missed = (0..20_000).filter(|_| Lock::try_acquire(&path).unwrap().is_none()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(missed, 0);
        });
    }
}
