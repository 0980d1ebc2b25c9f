//! Records as JSON files that a reader never sees half-written.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AtPath, Error, Result};

/// Writes `value` beside `path`, syncs it and renames it into place. One writer at a time.
///
/// # Errors
/// When the disk is full or the directory gone; the old record is then untouched.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    replace(path, &text(path, value)?)
}

/// As [`write_json`], without the sync: a reader never sees it half-written, but a power cut may
/// leave less than that.
///
/// # Errors
/// As [`write_json`].
pub fn write_json_unsynced<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    swap(path, &text(path, value)?, false)
}

fn text<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(std::io::Error::from).at(path)?;
    text.push(b'\n');
    Ok(text)
}

/// Writes `bytes` beside `path`, syncs them and renames them into place. One writer at a time.
///
/// # Errors
/// When the disk is full or the directory gone; the old file is then untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    swap(path, bytes, true)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// As [`replace`], without the sync: a reader never sees it half-written, but a power cut may leave
/// less than that.
///
/// # Errors
/// As [`replace`].
pub fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<()> {
    swap(path, bytes, false)
}

fn swap(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let temporary = path.with_extension("json.tmp");
    let written = write(&temporary, bytes, sync).and_then(|()| std::fs::rename(&temporary, path).at(path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Reads a file; `None` when it has more than `most` bytes.
///
/// # Errors
/// When it cannot be read.
pub fn read_at_most(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).at(path)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

fn write(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).at(path)?;
    file.write_all(bytes).at(path)?;
    if sync { file.sync_all().at(path) } else { Ok(()) }
}

/// Removes a directory and all below it, if it is there. Links are not followed.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

/// Makes a rename in `directory` survive a power cut.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory).and_then(|d| d.sync_all()).at(directory)
}

/// Reads a record; `None` when there is none.
///
/// # Errors
/// When the file cannot be read or is no such record.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read_existing(path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source })
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// When it cannot be read.
pub fn read_existing(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at(path),
    }
}

/// Writes a raw disk of `size` bytes that begins with `content` and is NUL from there on.
///
/// # Errors
/// When the disk is full or `content` is larger than `size`.
pub fn write_disk(path: &Path, content: &[u8], size: u64) -> Result<()> {
    if content.len() as u64 > size {
        return Err(Error::TooLarge { path: path.to_owned(), length: content.len() as u64, size });
    }
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).at(path)?;
    file.write_all(content).at(path)?;
    file.set_len(size).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        write_json(&path, &1).unwrap();
        // A directory in the temporary file's place makes the write fail.
        std::fs::create_dir(dir.path().join("record.json.tmp")).unwrap();
        assert!(write_json(&path, &2).is_err());
        assert_eq!(read_json::<i32>(&path).unwrap(), Some(1));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        std::fs::write(&path, "{").unwrap();
        assert!(read_json::<i32>(&path).unwrap_err().to_string().contains("record.json"));
    }
}
