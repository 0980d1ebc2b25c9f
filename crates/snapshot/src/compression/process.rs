//! Compression as a process of its own, `hypeman compress-snapshot`: a restore ends it by its pid.
//! Not to be called in a process that does anything else.

use std::path::Path;

use hypeman_files::Lock;
use hypeman_record::names;

use super::{FAILED, WORTH_IT, replace, squeeze, tell, wait, write};
use crate::error::Result;
use crate::manifest::{Algorithm, SavedFile};
use crate::standby::{self, WHOLE};

/// Compresses the whole snapshot in `directory`, unless a VM is about to go on from it. Waits for
/// another compression.
///
/// # Errors
/// When there is no whole snapshot, or the disk is full; the snapshot is then as it was.
pub fn compress(directory: &Path, algorithm: Algorithm) -> Result<()> {
    let lock = wait(directory)?;
    // A restore has the shim's lock before it ends compressions, and ends those by the pid that is
    // written here. So one that is not seen by the restore sees it, and leaves the files alone.
    tell(&lock, 0, 0)?;
    if hypeman_files::is_held(&directory.join(names::SHIM_PID))? {
        return write(&lock, "");
    }
    let compressed = compress_files(directory, algorithm, &lock);
    // The rest of the file says how it ended.
    let word = compressed.as_ref().err().map(|error| format!("{FAILED}{error}\n")).unwrap_or_default();
    write(&lock, &word)?;
    compressed
}

fn compress_files(directory: &Path, algorithm: Algorithm, lock: &Lock) -> Result<()> {
    let whole = directory.join(WHOLE);
    let mut manifest = standby::manifest(directory)?;
    let total = manifest.size();
    tell(lock, 0, total)?;
    let mut done = 0;
    for index in 0..manifest.files.len() {
        let saved = manifest.files[index].clone();
        if saved.compressed.is_none() && saved.size >= WORTH_IT {
            let told = |read: u64| tell(lock, done + read, total);
            let small =
                SavedFile { compressed: Some(squeeze(&whole, &saved, algorithm, &told)?), ..saved.clone() };
            replace(&whole, &mut manifest, index, small)?;
        }
        done += saved.size;
    }
    Ok(())
}
