//! Files as they are on disk: synced, and with a sum by which damage is found.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hypeman_files::AtPath;
use twox_hash::XxHash3_128;

use crate::error::{Error, Result};
use crate::manifest::{DiskState, SavedFile};

/// How much is read at a time.
const BLOCK: usize = 1024 * 1024;

/// Syncs a file of a snapshot, and tells what it holds. It is read while the disk still writes it.
pub(crate) fn seal(directory: &Path, name: &str) -> Result<SavedFile> {
    let path = directory.join(name);
    let file = File::open(&path).at(&path)?;
    let sum = std::thread::scope(|scope| {
        let sum = scope.spawn(|| checksum(&path));
        file.sync_all().at(&path)?;
        // A panic there is one here.
        sum.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let (size, checksum) = sum?;
    Ok(SavedFile { name: name.to_owned(), size, checksum })
}

/// Whether a file is as long as it was; nothing of it is read.
pub(crate) fn look(directory: &Path, saved: &SavedFile) -> Result<()> {
    let path = directory.join(&saved.name);
    match std::fs::metadata(&path) {
        Ok(found) if found.len() == saved.size => Ok(()),
        Ok(_) => Err(Error::Damaged(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing(path)),
        Err(error) => Ok(Err(error).at(&path)?),
    }
}

/// Whether a file holds what it did; all of it is read.
pub(crate) fn verify(directory: &Path, saved: &SavedFile) -> Result<()> {
    look(directory, saved)?;
    let path = directory.join(&saved.name);
    let (size, found) = checksum(&path)?;
    if (size, found) == (saved.size, saved.checksum.clone()) { Ok(()) } else { Err(Error::Damaged(path)) }
}

fn checksum(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).at(path)?;
    let mut hasher = XxHash3_128::new();
    let mut block = vec![0; BLOCK];
    let mut size = 0;
    loop {
        match file.read(&mut block).at(path)? {
            0 => return Ok((size, format!("{:032x}", hasher.finish_128()))),
            length => {
                hasher.write(&block[..length]);
                size += length as u64;
            }
        }
    }
}

/// The disk at `path` in `directory`, as it is now.
pub(crate) fn disk_state(directory: &Path, path: &Path) -> Result<DiskState> {
    let full = directory.join(path);
    let found = std::fs::metadata(&full).at(&full)?;
    let modified = (found.mtime(), found.mtime_nsec());
    Ok(DiskState { path: path.to_owned(), size: found.len(), modified })
}
