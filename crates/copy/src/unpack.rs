//! From a tar stream to a tree, below one directory and nowhere else.

use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::makedev;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use tar::{Archive, Entry, EntryType, Header};

use crate::{LeftOut, named};

/// How much of an archive is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// Its owners: else everything is ours. And bits by which a program runs as its owner.
    pub owners: bool,
    /// Its devices: else they are left out.
    pub devices: bool,
}

/// Size of the blocks that become holes when they are empty.
const BLOCK: usize = 4096;

/// Bits of a mode that are not given away: set-user-ID, set-group-ID.
const PRIVILEGES: u32 = 0o6000;

/// Writes what is in `stream` below `directory`, all of it at or below `name`, or anywhere if that is empty. What is there is replaced by a
/// file of its name, but no directory by a file or a file by a directory.
///
/// # Errors
/// When a name or link would lead outside, the stream is no archive, or something cannot be written. What was written until then stays.
pub fn unpack(stream: impl Read, directory: &Path, name: &Path, trust: Trust) -> Result<LeftOut> {
    let root = Dir::open_ambient_dir(directory, cap_std::ambient_authority())
        .map_err(|error| named(directory, &error))?;
    let mut unpacker = Unpacker {
        root,
        trust,
        directories: Vec::new(),
        left_out: LeftOut::default(),
        buffer: vec![0; 64 * BLOCK],
    };
    let mut archive = Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = relative(&entry.path_bytes())?;
        if !path.starts_with(name) {
            let reason = format!("the archive has {}, which was not asked for", path.display());
            return Err(Error::new(ErrorKind::InvalidData, reason));
        }
        unpacker.add(&mut entry, &path, name).map_err(|error| named(&path, &error))?;
    }
    unpacker.finish()?;
    // To its end: whoever writes it is not to be cut off.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    Ok(unpacker.left_out)
}

/// A name in an archive as a path below its root.
fn relative(name: &[u8]) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                let name = String::from_utf8_lossy(name);
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    format!("the archive has {name:?}, which leads outside"),
                ));
            }
        }
    }
    Ok(path)
}

struct Unpacker {
    root: Dir,
    trust: Trust,
    /// Directories with what they get last: until then we have to be able to write in them.
    directories: Vec<(PathBuf, Header)>,
    left_out: LeftOut,
    /// For the contents of files.
    buffer: Vec<u8>,
}

impl Unpacker {
    fn add(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path, name: &Path) -> Result<()> {
        let header = entry.header().clone();
        let kind = header.entry_type();
        if path.as_os_str().is_empty() {
            return Ok(()); // the directory itself, which is not ours to change
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.root.create_dir_all(parent)?;
        }
        match kind {
            EntryType::Directory => {
                self.make_directory(path)?;
                self.directories.push((path.to_owned(), header));
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.write_file(entry, path, &header)
            }
            EntryType::Symlink => {
                self.make_way(path)?;
                self.root.symlink_contents(target(entry)?, path)?;
                self.own_link(path, &header)
            }
            EntryType::Link => {
                let first = relative(target(entry)?.as_os_str().as_bytes())?;
                if !first.starts_with(name) {
                    return Err(Error::other("a link to what was not asked for"));
                }
                self.make_way(path)?;
                self.root.hard_link(first, &self.root, path)
            }
            EntryType::Fifo => self.make_node(path, FileType::Fifo, &header),
            EntryType::Char | EntryType::Block if !self.trust.devices => {
                self.left_out.add(path, "it is a device");
                Ok(())
            }
            EntryType::Char => self.make_node(path, FileType::CharacterDevice, &header),
            EntryType::Block => self.make_node(path, FileType::BlockDevice, &header),
            EntryType::XGlobalHeader => Ok(()),
            other => {
                self.left_out.add(path, &format!("its kind is not known ({other:?})"));
                Ok(())
            }
        }
    }

    fn make_directory(&self, path: &Path) -> Result<()> {
        match self.root.create_dir(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                match self.root.symlink_metadata(path)? {
                    found if found.is_dir() => Ok(()),
                    _ => Err(Error::other("a directory cannot take the place of what is no directory")),
                }
            }
            made => made,
        }
    }

    /// Removes what is to be replaced.
    fn make_way(&self, path: &Path) -> Result<()> {
        match self.root.symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(found) if found.is_dir() => {
                Err(Error::other("what is no directory cannot take the place of one"))
            }
            Ok(_) => self.root.remove_file(path),
        }
    }

    fn write_file(&mut self, entry: &mut impl Read, path: &Path, header: &Header) -> Result<()> {
        self.make_way(path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = self.root.open_with(path, &options)?.into_std();
        write_sparsely(entry, &mut file, &mut self.buffer)?;
        if self.trust.owners {
            let (uid, gid) = owner(header)?;
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, self.mode(header)?)?;
        Ok(rustix::fs::futimens(&file, &times(header))?)
    }

    fn own_link(&self, path: &Path, header: &Header) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        if self.trust.owners {
            let (uid, gid) = owner(header)?;
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(&parent, name, &times(header), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn make_node(&self, path: &Path, kind: FileType, header: &Header) -> Result<()> {
        self.make_way(path)?;
        let (parent, name) = self.parent(path)?;
        let number = |number: Result<Option<u32>>| number.map(Option::unwrap_or_default);
        let device = makedev(number(header.device_major())?, number(header.device_minor())?);
        rustix::fs::mknodat(&parent, name, kind, self.mode(header)?, device)?;
        self.own_link(path, header)
    }

    /// The directory of an entry, held, and the entry's name in it.
    fn parent<'a>(&self, path: &'a Path) -> Result<(Dir, &'a OsStr)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.map_or_else(|| self.root.try_clone(), |parent| self.root.open_dir(parent))?;
        Ok((parent, name))
    }

    fn mode(&self, header: &Header) -> Result<Mode> {
        let kept = if self.trust.owners { 0o7777 } else { 0o7777 & !PRIVILEGES };
        Ok(Mode::from_raw_mode(header.mode()? & kept))
    }

    /// The last of a directory comes first: it may lie in one that is closed then.
    fn finish(&mut self) -> Result<()> {
        while let Some((path, header)) = self.directories.pop() {
            let finish = || {
                let directory = self.root.open(&path)?; // not `open_dir`, whose handle is only good for names
                if self.trust.owners {
                    let (uid, gid) = owner(&header)?;
                    rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
                }
                rustix::fs::fchmod(&directory, self.mode(&header)?)?;
                Ok(rustix::fs::futimens(&directory, &times(&header))?)
            };
            finish().map_err(|error: Error| named(&path, &error))?;
        }
        Ok(())
    }
}

fn target(entry: &Entry<'_, impl Read>) -> Result<PathBuf> {
    let target = entry.link_name_bytes().ok_or_else(|| Error::other("a link that leads nowhere"))?;
    Ok(PathBuf::from(OsStr::from_bytes(&target)))
}

fn owner(header: &Header) -> Result<(Uid, Gid)> {
    let number = |number: u64| u32::try_from(number).ok().filter(|number| *number != u32::MAX);
    match (number(header.uid()?), number(header.gid()?)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(Error::new(ErrorKind::InvalidData, "its owner is no number of a user")),
    }
}

fn times(header: &Header) -> Timestamps {
    let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Writes with holes where nothing is: what comes may say how they lie, or not.
fn write_sparsely(from: &mut impl Read, file: &mut std::fs::File, buffer: &mut [u8]) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let mut at = 0_u64;
    loop {
        let count = fill(from, buffer)?;
        if count == 0 {
            return file.set_len(at).and_then(|()| file.flush());
        }
        for block in runs(&buffer[..count]) {
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, at)?;
            }
            at += block.len() as u64;
        }
    }
}

/// Pieces of a buffer that are all empty, or are written in one go.
fn runs(buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_empty = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let first = is_empty(rest.chunks(BLOCK).next()?);
        let length = rest.chunks(BLOCK).take_while(|block| is_empty(block) == first).map(<[u8]>::len).sum();
        let (run, after) = rest.split_at(length);
        rest = after;
        Some(run)
    })
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
