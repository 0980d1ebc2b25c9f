//! The files of one log: `app.log`, and before it `app.log.1`, `.2` and so on, the higher the
//! older.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Identity of a file, whatever its name, also against a later file with the same inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino(), born: metadata.created().ok() }
    }

    /// The identity of the file at `path`, if there is one.
    pub(crate) fn at(path: &Path) -> Option<Identity> {
        std::fs::metadata(path).ok().map(|metadata| Identity::of(&metadata))
    }

    pub(crate) fn inode(self) -> u64 {
        self.inode
    }

    /// All of it, to be compared with.
    pub(crate) fn bytes(self) -> [u8; 32] {
        let born = self.born.and_then(|born| born.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let numbers = [self.device, self.inode, born.as_secs(), born.subsec_nanos().into()];
        let mut bytes = [0; 32];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// The name of rotated file `number`; 0 is the log itself.
#[must_use]
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The numbers of the rotated files that are there, the oldest first. A rotation that was killed
/// leaves a gap in them.
///
/// # Errors
/// When the directory cannot be read.
pub fn numbers(path: &Path) -> std::io::Result<Vec<u32>> {
    let prefix = [path.file_name().unwrap_or_default().as_encoded_bytes(), b"."].concat();
    let number = |file: &PathBuf| -> Option<u32> {
        let rest = file.file_name()?.as_encoded_bytes().strip_prefix(&prefix[..])?;
        std::str::from_utf8(rest).ok()?.parse().ok().filter(|number| *number > 0)
    };
    let mut numbers: Vec<u32> = beside(path)?.iter().filter_map(number).collect();
    numbers.sort_unstable_by(|a: &u32, b| b.cmp(a));
    Ok(numbers)
}

/// All files in the directory of the log, whatever they are.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn beside(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::read_dir(directory) {
        // Someone has removed it, and all logs with it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// All files of the log that are there, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let rotated = numbers(path)?.into_iter().map(|number| rotated(path, number));
    Ok(rotated.chain([path.to_owned()].into_iter().filter(|path| path.exists())).collect())
}
