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
pub(crate) const BLOCK: usize = 1024 * 1024;

/// The sum of what has come by.
pub(crate) struct Sum {
    hasher: XxHash3_128,
    size: u64,
}

impl Default for Sum {
    fn default() -> Sum {
        Sum { hasher: XxHash3_128::new(), size: 0 }
    }
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        self.size += bytes.len() as u64;
    }

    /// Whether it is that of a file.
    pub(crate) fn is(&self, saved: &SavedFile) -> bool {
        (self.size, self.text()) == (saved.size, saved.checksum.clone())
    }

    fn text(&self) -> String {
        format!("{:032x}", self.hasher.finish_128())
    }
}

/// Syncs a file of a snapshot, and tells what it holds. It is read while the disk still writes it.
pub(crate) fn seal(directory: &Path, name: &str) -> Result<SavedFile> {
    let path = directory.join(name);
    let file = File::open(&path).at(&path)?;
    let sum = std::thread::scope(|scope| {
        let sum = scope.spawn(|| sum(&path));
        file.sync_all().at(&path)?;
        // A panic there is one here.
        sum.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(SavedFile { name: name.to_owned(), size: sum.size, checksum: sum.text(), compressed: None })
}

/// Whether a file is as long as it was; nothing of it is read.
pub(crate) fn look(directory: &Path, saved: &SavedFile) -> Result<()> {
    let path = directory.join(saved.file());
    match std::fs::metadata(&path) {
        Ok(found) if found.len() == saved.compressed.map_or(saved.size, |compressed| compressed.size) => {
            Ok(())
        }
        Ok(_) => Err(Error::Damaged(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing(path)),
        Err(error) => Ok(Err(error).at(&path)?),
    }
}

/// Whether a file that is not compressed holds what it did; all of it is read.
pub(crate) fn verify(directory: &Path, saved: &SavedFile) -> Result<()> {
    look(directory, saved)?;
    let path = directory.join(saved.file());
    if sum(&path)?.is(saved) { Ok(()) } else { Err(Error::Damaged(path)) }
}

fn sum(path: &Path) -> Result<Sum> {
    let mut file = File::open(path).at(path)?;
    let mut sum = Sum::default();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block).at(path)? {
            0 => return Ok(sum),
            length => sum.add(&block[..length]),
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
