//! Copies that take no more room than they must: of shared extents where the file system has them,
//! else of data without its holes.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{AtPath, Result};

/// Most that one call copies, in bytes: so it can be interrupted.
const PIECE: u64 = 256 << 20;

/// Copies a file to one that does not exist, with its holes and the time of its last change. The
/// copy is its owner's alone, and survives a power cut.
///
/// # Errors
/// When the disk is full, or the target exists.
pub fn copy_sparse(source: &Path, target: &Path) -> Result<()> {
    copy_open(&File::open(source).at(source)?, source, target)
}

/// Opens a plain file, by a path that its user has chosen.
///
/// # Errors
/// When it is not there, or no plain file: opening a FIFO may block for ever.
pub fn open_plain(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    plain(rustix::fs::open(path, flags, Mode::empty()), path)
}

/// Opens a plain file below a directory, by a name of somebody who is not trusted: it leads through
/// no link and nowhere else.
///
/// # Errors
/// As [`open_plain`]; and when a link is on the way, or the way leads out of the directory.
pub fn open_plain_below(directory: &File, name: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    plain(rustix::fs::openat2(directory, name, flags, Mode::empty(), within), name)
}

fn plain(opened: std::result::Result<OwnedFd, Errno>, path: &Path) -> Result<File> {
    let file = match opened {
        Err(Errno::LOOP) => Err(Error::other("it is a link, or one is on the way there")),
        opened => Ok(File::from(opened.map_err(Error::from).at(path)?)),
    };
    let file = file.at(path)?;
    let is_plain = file.metadata().at(path)?.is_file();
    if is_plain { Ok(file) } else { Err(Error::other("it is no plain file")).at(path) }
}

/// As [`copy_sparse`], of a file that is open already; `source` names it in errors.
///
/// # Errors
/// As [`copy_sparse`].
pub fn copy_open(from: &File, source: &Path, target: &Path) -> Result<()> {
    let metadata = from.metadata().at(source)?;
    let mut options = OpenOptions::new();
    let to = options.write(true).create_new(true).mode(0o600).open(target).at(target)?;
    if rustix::fs::ioctl_ficlone(&to, from).is_err() {
        to.set_len(metadata.len()).at(target)?;
        copy_data(from, &to, metadata.len()).at(target)?;
    }
    let changed = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: changed, last_modification: changed };
    rustix::fs::futimens(&to, &times).map_err(Error::from).at(target)?;
    to.sync_all().at(target)
}

/// Copies what is no hole.
fn copy_data(from: &File, to: &File, length: u64) -> std::io::Result<()> {
    let mut begin = 0;
    while begin < length {
        begin = match rustix::fs::seek(from, SeekFrom::Data(begin)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => return Ok(()), // only a hole is left (lseek(2))
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(begin))?;
        copy_range(from, to, begin, end)?;
        begin = end;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, begin: u64, end: u64) -> std::io::Result<()> {
    let (mut read, mut written) = (begin, begin);
    while read < end {
        let piece = usize::try_from((end - read).min(PIECE)).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()), // cut off meanwhile
            // Between file systems that cannot do so (copy_file_range(2)).
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                return copy_by_hand(from, to, read, end);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, mut begin: u64, end: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut block = vec![0; 1 << 20];
    while begin < end {
        let most = usize::try_from(end - begin).unwrap_or(usize::MAX).min(block.len());
        match from.read_at(&mut block[..most], begin)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => {
                to.write_all_at(&block[..length], begin)?;
                begin += length as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_sparse_file_stays_sparse_and_is_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
        let file = File::create(&source).unwrap();
        file.set_len(50 << 30).unwrap();
        for offset in [0, 1 << 30, (50 << 30) - 4096] {
            file.write_all_at(&[7; 4096], offset).unwrap();
        }
        copy_sparse(&source, &target).unwrap();
        let (before, after) = (source.metadata().unwrap(), target.metadata().unwrap());
        assert_eq!((before.len(), before.mtime_nsec()), (after.len(), after.mtime_nsec()));
        assert_eq!(after.mode() & 0o7777, 0o600, "whatever its source's is");
        assert!(after.blocks() <= before.blocks() + 64, "{} blocks for {}", after.blocks(), before.blocks());
        let copy = File::open(&target).unwrap();
        for offset in [0, 1 << 30, (50 << 30) - 4096] {
            let mut read = [0; 4096];
            copy.read_exact_at(&mut read, offset).unwrap();
            assert_eq!(read, [7; 4096], "at {offset}");
        }
        assert!(copy_sparse(&source, &target).is_err(), "what is there is not written over");
    }

    #[test]
    fn a_copy_by_hand_is_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::write(scratch.path().join("source"), &bytes).unwrap();
        let to = File::create_new(scratch.path().join("target")).unwrap();
        let from = File::open(scratch.path().join("source")).unwrap();
        copy_by_hand(&from, &to, 0, bytes.len() as u64).unwrap();
        assert_eq!(std::fs::read(scratch.path().join("target")).unwrap(), bytes);
    }
}
