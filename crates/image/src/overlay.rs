//! The writable disk of an instance.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hypeman_files::AtPath;

use crate::error::{Result, content};
use crate::tool;

/// Smallest overlay: a file system with a journal and some room.
const SMALLEST: u64 = 16 * 1024 * 1024;

/// Makes an empty ext4 file system of `size` bytes in a sparse file, which takes room only as the
/// guest writes.
///
/// # Errors
/// When the size is too small or no whole MiB, mke2fs is missing, or the disk is full.
pub fn create_overlay(path: &Path, size: u64) -> Result<()> {
    if size < SMALLEST || !size.is_multiple_of(1024 * 1024) {
        return Err(content(
            "the disk size",
            format!("{size} bytes cannot be used; give whole MiB, at least 16m"),
        ));
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at(path)?;
    file.set_len(size).at(path)?;
    drop(file);
    // No reserved blocks: there is no daemon in there to keep alive. The inode tables are left to
    // the guest's kernel, which makes them as they are needed; nothing has to be discarded in a
    // file that is a hole.
    let options =
        ["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"];
    tool::run("mke2fs", tool::command("mke2fs", "e2fsprogs")?.args(options).arg(path))?;
    Ok(())
}
