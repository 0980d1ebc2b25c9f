//! The VMM's own directory, below the instance's: where it works, and all that it opens or makes by
//! name. Everything else that it needs it gets as descriptors, so that it need not reach, and
//! cannot replace, what is not its own.
//!
//! The VMM can change all files there, also when a guest controls it, so they are opened without
//! following links.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, remove_tree};
use hypeman_record::spec::VmSpec;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Result;
use crate::hypervisor::Origin;

/// Its name.
pub const HOME: &str = "vmm";

/// Below it, what a VM is restored from.
const RESTORED: &str = "restored";

/// Below it, a snapshot that is being written.
const SAVED: &str = "saved";

/// The one of the VMM of the instance in `directory`; `None` when an older release has started it.
pub(crate) fn own(directory: &Path) -> Option<PathBuf> {
    Some(directory.join(HOME)).filter(|home| home.is_dir())
}

/// The directory in which the VMM of the instance in `directory` works: without one of its own that
/// directory itself.
pub(crate) fn of(directory: &Path) -> PathBuf {
    own(directory).unwrap_or_else(|| directory.to_owned())
}

/// Makes it for a VMM that is to be started, with nothing in it but the files called `names` of the
/// snapshot from which it goes on.
pub(crate) fn make(directory: &Path, spec: &VmSpec, origin: Origin<'_>, names: &[&str]) -> Result<PathBuf> {
    let home = directory.join(HOME);
    remove_tree(&home)?;
    if !spec.by_descriptor {
        return Ok(directory.to_owned());
    }
    DirBuilder::new().mode(0o700).create(&home).at(&home)?;
    if let Origin::Restore(snapshot) = origin {
        put_snapshot(&home, &directory.join(snapshot), names)?;
    }
    Ok(home)
}

/// Puts those of the files of a snapshot that the VMM has written where it finds them. The same
/// files: they are not copied. What else lies there is ours, and not to be another's to change.
fn put_snapshot(home: &Path, snapshot: &Path, names: &[&str]) -> Result<()> {
    let restored = home.join(RESTORED);
    std::fs::create_dir(&restored).at(&restored)?;
    for name in names {
        match std::fs::hard_link(snapshot.join(name), restored.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Ok(Err(error).at(&restored)?);
            }
            _ => {} // which of them there are is the VMM's to say
        }
    }
    Ok(())
}

/// The same directory as the VMM calls it.
pub(crate) fn restored() -> PathBuf {
    Path::new("/proc/self/cwd").join(RESTORED)
}

/// Forgets them, when they were read.
pub(crate) fn remove_snapshot(home: &Path) {
    let _ = remove_tree(&home.join(RESTORED)); // with the next start it goes at the latest
}

/// Makes a directory for a VMM to write a snapshot to; what the VMM calls it.
pub(crate) fn begin_snapshot(home: &Path) -> Result<PathBuf> {
    let saved = home.join(SAVED);
    remove_tree(&saved)?;
    std::fs::create_dir(&saved).at(&saved)?;
    let owner = std::fs::metadata(home).at(home)?;
    chown(&saved, Some(owner.uid()), Some(owner.gid())).at(&saved)?;
    Ok(Path::new("/proc/self/cwd").join(SAVED))
}

/// Moves a written snapshot to `target`. Only files: a link would have us read what it leads to.
pub(crate) fn take_snapshot(home: &Path, target: &Path) -> Result<()> {
    for file in hypeman_files::entries(&home.join(SAVED))? {
        let moved = target.join(file.file_name().unwrap_or_default());
        std::fs::rename(&file, &moved).at(&moved)?;
        if !moved.symlink_metadata().at(&moved)?.is_file() {
            return Ok(Err(std::io::Error::from(Errno::LOOP)).at(&moved)?);
        }
    }
    Ok(remove_tree(&home.join(SAVED))?)
}

/// Opens a FIFO in it.
pub(crate) fn open_fifo(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fifo = rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from).at(path)?;
    check(&fifo, FileType::Fifo).at(path)?;
    Ok(fifo)
}

/// A socket in it: a descriptor that cannot be replaced, and a path to it as long as that is open.
pub(crate) fn find_socket(path: &Path) -> std::io::Result<(OwnedFd, PathBuf)> {
    let socket = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    check(&socket, FileType::Socket)?;
    let path = format!("/proc/self/fd/{}", socket.as_raw_fd()).into();
    Ok((socket, path))
}

fn check(file: impl AsFd, expected: FileType) -> std::io::Result<()> {
    let found = FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    if found == expected {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("it is no {expected:?} but a {found:?}")))
    }
}
