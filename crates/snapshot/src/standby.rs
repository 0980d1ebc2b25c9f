//! The snapshot in the directory of an instance, from its first byte to its last use.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use hypeman_files::{AtPath, sync_directory};
use hypeman_record::format::{self, Envelope};
use hypeman_record::launch::Launch;
use jiff::Timestamp;

use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::manifest::{DiskState, Manifest};
use crate::sealed;

/// The whole snapshot.
pub const WHOLE: &str = "snapshot";
/// One that is being made.
pub const NEW: &str = "snapshot.new";
/// One that was used.
const USED: &str = "snapshot.used";
/// The manifest, in each of them.
pub(crate) const MANIFEST: &str = "snapshot.json";

/// Whether the instance in `directory` can go on from a snapshot.
#[must_use]
pub fn is_whole(directory: &Path) -> bool {
    directory.join(WHOLE).join(MANIFEST).exists()
}

/// Whether a snapshot was begun, and its maker killed if it does not live.
#[must_use]
pub fn is_begun(directory: &Path) -> bool {
    directory.join(NEW).exists()
}

/// Whether a guest was about to go on from a snapshot, or has.
#[must_use]
pub fn is_used(directory: &Path) -> bool {
    directory.join(USED).exists()
}

/// Makes an empty directory for a snapshot, [`NEW`].
///
/// # Errors
/// When it cannot be made.
pub fn begin(directory: &Path) -> Result<()> {
    remove(directory, NEW)?;
    let path = directory.join(NEW);
    // A guest's memory is nobody else's business, and not every VMM makes its files private.
    Ok(DirBuilder::new().mode(0o700).create(&path).at(&path)?)
}

/// Makes the new snapshot whole: all that a VMM has written there, and the disks that it writes,
/// survive a power cut from here on, and the manifest tells what they are. `cpu` is the one that
/// the guest has seen, if it has seen one and that is known.
///
/// # Errors
/// When the disk is full or fails.
pub fn seal(directory: &Path, launch: &Launch, cpu: Option<Cpu>) -> Result<()> {
    let taken = Timestamp::now();
    let new = directory.join(NEW);
    let disks = launch.spec.disks.iter().filter(|disk| !disk.read_only).map(|disk| &disk.path);
    let disks = disks.map(|path| sealed_disk(directory, path)).collect::<Result<Vec<_>>>()?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&new).at(&new)? {
        names.push(entry.at(&new)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let files = names.iter().map(|name| sealed::seal(&new, name)).collect::<Result<Vec<_>>>()?;
    let manifest =
        Manifest { taken, launch: launch.clone(), cpu, files, disks, envelope: Envelope::of::<Manifest>() };
    Ok(format::write(&new.join(MANIFEST), &manifest)?)
}

fn sealed_disk(directory: &Path, path: &Path) -> Result<DiskState> {
    let full = directory.join(path);
    File::open(&full).and_then(|disk| disk.sync_all()).at(&full)?;
    sealed::disk_state(directory, path)
}

/// From here on the new snapshot is the instance's.
///
/// # Errors
/// When it cannot be renamed or synced; the VM is to go on then, after [`withdraw`].
pub fn publish(directory: &Path) -> Result<()> {
    let (new, whole) = (directory.join(NEW), directory.join(WHOLE));
    remove(directory, WHOLE)?; // without a manifest, or it would be whole
    std::fs::rename(&new, &whole).at(&whole)?;
    Ok(sync_directory(directory)?)
}

/// Removes a snapshot that is not to be used, whole or not. The VM may go on then.
///
/// # Errors
/// When it is there still: the VM may not go on.
pub fn withdraw(directory: &Path) -> Result<()> {
    if directory.join(WHOLE).exists() {
        consume(directory)?;
    }
    remove(directory, NEW)?;
    forget(directory)
}

/// The snapshot's manifest.
///
/// # Errors
/// When there is no whole snapshot, or its manifest cannot be used.
pub fn manifest(directory: &Path) -> Result<Manifest> {
    read(&directory.join(WHOLE))
}

fn read(snapshot: &Path) -> Result<Manifest> {
    let path = snapshot.join(MANIFEST);
    format::read(&path)?.ok_or(Error::Missing(path))
}

/// Whether the files and disks are there that the manifest tells of, as large as they were and not
/// changed since. Nothing of them is read.
///
/// # Errors
/// The file that is missing or has changed.
pub fn look(directory: &Path, manifest: &Manifest) -> Result<()> {
    let whole = directory.join(WHOLE);
    manifest.files.iter().try_for_each(|file| sealed::look(&whole, file))?;
    check_disks(directory, manifest)
}

/// Whether all of the snapshot, which is not compressed, is as it was written; all of it is read.
///
/// # Errors
/// The file that is missing or has changed.
pub fn verify(directory: &Path) -> Result<()> {
    let whole = directory.join(WHOLE);
    read(&whole)?.files.iter().try_for_each(|file| sealed::verify(&whole, file))
}

fn check_disks(directory: &Path, manifest: &Manifest) -> Result<()> {
    for disk in &manifest.disks {
        if sealed::disk_state(directory, &disk.path)? != *disk {
            return Err(Error::DiskChanged(directory.join(&disk.path)));
        }
    }
    Ok(())
}

/// The guest is about to go on: from here on the snapshot cannot be used again, for the disks
/// change.
///
/// # Errors
/// When it cannot be renamed or synced. It is whole then, or gone.
pub fn consume(directory: &Path) -> Result<()> {
    remove(directory, USED)?;
    let (whole, used) = (directory.join(WHOLE), directory.join(USED));
    std::fs::rename(&whole, &used).at(&whole)?;
    Ok(sync_directory(directory)?)
}

/// After a VMM has failed to let the guest go on: when no disk was changed, the snapshot is whole
/// again. Whether there is one.
///
/// # Errors
/// When it cannot be renamed back.
pub fn put_back(directory: &Path) -> Result<bool> {
    let used = directory.join(USED);
    if used.exists() && read(&used).and_then(|manifest| check_disks(directory, &manifest)).is_ok() {
        let whole = directory.join(WHOLE);
        std::fs::rename(&used, &whole).at(&whole)?;
        sync_directory(directory)?;
    }
    Ok(is_whole(directory))
}

/// Removes what was used.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(directory: &Path) -> Result<()> {
    remove(directory, USED)
}

fn remove(directory: &Path, name: &str) -> Result<()> {
    Ok(hypeman_files::remove_tree(&directory.join(name))?)
}

#[cfg(test)]
pub(crate) mod tests;
