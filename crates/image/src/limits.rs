//! Limits on images. Each is far above any image that was made to be run; docs/limits.md lists
//! them.

use std::path::{Path, PathBuf};

use hypeman_files::AtPath;
use rustix::io::Errno;

use crate::error::{Result, content};

/// Maximum number of entries that an image may have after its layers were joined, directories
/// without an entry of their own included.
pub(crate) const MOST_ENTRIES: usize = 2_000_000;

/// Maximum number of bytes of names, link targets and extended attributes in an image; attributes
/// that many files share count once.
pub(crate) const MOST_METADATA: usize = 128 << 20;

/// Most directories above an entry.
pub(crate) const MOST_DEPTH: usize = 256;

/// Maximum number of entries of one directory: the time of the tool that makes the disk grows with
/// the square of that (`child_by_name` in squashfs-tools-ng's lib/fstree), to some 10 s here.
pub(crate) const MOST_IN_DIRECTORY: usize = 50_000;

/// Most of these squares together.
pub(crate) const MOST_CROWDING: u64 = 5_000_000_000;

/// Maximum length of a path and longest target of a link in bytes, as Linux has it (`PATH_MAX`,
/// limits.h).
pub(crate) const LONGEST_PATH: usize = 4096;

/// Longest component of a path in bytes, as Linux has it (`NAME_MAX`, limits.h).
pub(crate) const LONGEST_NAME: usize = 255;

/// Most symbolic links on the way to one entry, as Linux has it (path_resolution(7)).
pub(crate) const MOST_LINKS: usize = 40;

/// Most components of targets that are followed, for all entries of an image together.
pub(crate) const MOST_FOLLOWED: usize = 20_000_000;

/// Maximum number of bytes that may stand before a member to describe it: long names, PAX records.
pub(crate) const MOST_EXTENSION: u64 = 1 << 20;

/// Longest value of an extended attribute in bytes (`XATTR_SIZE_MAX`, limits.h).
pub(crate) const LONGEST_XATTR: usize = 64 << 10;

/// Maximum number of bytes of the names of a file's extended attributes together (`XATTR_LIST_MAX`,
/// limits.h).
pub(crate) const MOST_XATTR_NAMES: usize = 64 << 10;

/// Maximum number of members of an archive with an image in it: its documents and layers.
pub(crate) const MOST_MEMBERS: usize = 100_000;

/// Largest JSON document of an image in bytes.
pub(crate) const MOST_DOCUMENT: u64 = 8 << 20;

/// Largest manifest or index of a registry in bytes, as the registry `distribution` has it.
pub(crate) const MOST_MANIFEST: u64 = 4 << 20;

/// Largest token or error of a registry in bytes.
pub(crate) const MOST_ANSWER: u64 = 1 << 20;

/// Most memory that a decompressor may take, in bytes. `xz -9` takes 65 MiB, `zstd --long` 128 MiB.
pub(crate) const DECOMPRESSOR: u64 = 130 << 20;

/// log2 of the largest window of zstd in bytes.
pub(crate) const ZSTD_WINDOW: u32 = 27;

/// Default limit on the decompressed size of an image, in bytes.
pub const DEFAULT_SIZE: u64 = 64 << 30;

/// This part of a disk is left free, for the logs and disks of what runs.
const LEFT_FREE: u64 = 64;

/// Room for the decompressed layers of one image.
#[derive(Debug)]
pub(crate) struct Room {
    directory: PathBuf,
    /// The most that was allowed.
    allowed: u64,
    left: u64,
    /// Whether it is the disk that has no more.
    is_the_disk_s: bool,
}

impl Room {
    /// Room in `directory`, at most `allowed` bytes.
    pub(crate) fn on(directory: &Path, allowed: u64) -> Result<Room> {
        let disk = rustix::fs::statvfs(directory).at(directory)?;
        let reserve = disk.f_blocks / LEFT_FREE;
        let free = disk.f_bavail.saturating_sub(reserve).saturating_mul(disk.f_frsize);
        Ok(Room {
            directory: directory.to_owned(),
            allowed,
            left: allowed.min(free),
            is_the_disk_s: free < allowed,
        })
    }

    /// Takes some of it for `what`.
    pub(crate) fn take(&mut self, what: &str, bytes: u64) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None if self.is_the_disk_s => Ok(Err(Errno::NOSPC).at(&self.directory)?),
            None => Err(content(
                what,
                format!("decompressed it is larger than the {} bytes that an image may have", self.allowed),
            )),
        }
    }
}
