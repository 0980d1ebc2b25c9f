//! From a tar stream to a tree, below one directory and nowhere else.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, makedev};
use tar::EntryType;

use crate::left_out::{LeftOut, named};
use crate::members::{Attributes, Contents, Member, Members, invalid};
use crate::place::{Links, Place};

/// How much of an archive is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// Its owners: else everything is ours. And bits by which a program runs as its owner.
    pub owners: bool,
    /// Its devices: else they are left out.
    pub devices: bool,
    /// Links, those of the archive and those that are there: whether its names may lead through
    /// them.
    pub links: Links,
}

/// Size of the blocks that become holes when they are empty.
const BLOCK: usize = 4096;

/// Bits of a mode that are not given away: set-user-ID, set-group-ID.
const PRIVILEGES: u32 = 0o6000;

/// Maximum number of directories, links and files that are remembered to the archive's end.
const MOST_REMEMBERED: usize = 1_000_000;

/// Maximum length in bytes of the names that are remembered to the archive's end.
const MOST_NAMES: usize = 128 << 20;

/// Maximum size in bytes of what follows the end mark of an archive of somebody who is not trusted:
/// tar(1) fills up its last record.
const MOST_AFTER_END: u64 = 1 << 20;

/// Writes what is in `stream` below `directory`, all of it at or below `name`, or anywhere if that
/// is empty. What is there is replaced by a file of its name, but no directory by a file or a file
/// by a directory.
///
/// # Errors
/// When a name or link would lead outside, the stream is no archive, or something cannot be
/// written. What was written until then stays.
pub fn unpack(stream: impl Read, directory: &Path, name: &Path, trust: Trust) -> Result<LeftOut> {
    let place = Place::open(directory, trust.links).map_err(|error| named(directory, &error))?;
    let mut unpacker = Unpacker::new(place, trust);
    let mut members = Members::new(stream);
    while let Some(member) = members.next()? {
        let path = relative(&member.path)?;
        if !path.starts_with(name) {
            let reason = format!("the archive has {}, which was not asked for", path.display());
            return Err(invalid(reason));
        }
        unpacker.add(&mut members, member, &path, name).map_err(|error| named(&path, &error))?;
    }
    unpacker.finish()?;
    members.drain(if trust.links == Links::Refused { MOST_AFTER_END } else { u64::MAX })?;
    Ok(unpacker.left_out)
}

/// A name in an archive as a path below its root.
fn relative(name: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                let name = name.display();
                return Err(invalid(format!("the archive has \"{name}\", which leads outside")));
            }
        }
    }
    Ok(path)
}

struct Unpacker {
    place: Place,
    trust: Trust,
    /// Directories with what they get last: until then we have to be able to write in them.
    directories: BTreeMap<PathBuf, Attributes>,
    /// Symbolic links, and hard links to them, where no name may lead through one: made when
    /// nothing else is to be written.
    links: Vec<(PathBuf, Member)>,
    /// Device and number of the files that were written, where a hard link may be to no other.
    written: HashSet<(u64, u64)>,
    /// Length of the names that are remembered.
    names: usize,
    left_out: LeftOut,
    /// For the contents of files.
    buffer: Vec<u8>,
}

impl Unpacker {
    fn new(place: Place, trust: Trust) -> Unpacker {
        Unpacker {
            place,
            trust,
            directories: BTreeMap::new(),
            links: Vec::new(),
            written: HashSet::new(),
            names: 0,
            left_out: LeftOut::default(),
            buffer: vec![0; 64 * BLOCK],
        }
    }

    fn add<R: Read>(
        &mut self,
        members: &mut Members<R>,
        member: Member,
        path: &Path,
        name: &Path,
    ) -> Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(()); // the directory itself, which is not ours to change
        }
        match member.kind {
            EntryType::Directory => self.add_directory(path, member.attributes),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.write_file(members, &member, path)
            }
            EntryType::Symlink if self.trust.links == Links::Refused => self.remember_link(path, member),
            EntryType::Symlink => self.make_link(path, &member),
            EntryType::Link => {
                let first = relative(member.link.as_deref().unwrap_or(Path::new("")))?;
                if !first.starts_with(name) {
                    return Err(Error::other("a link to a file outside the copy"));
                }
                match self.make_hard_link(&first, path) {
                    Err(error) if error.kind() == ErrorKind::NotFound && !self.links.is_empty() => {
                        self.remember_link(path, member)
                    }
                    made => made,
                }
            }
            EntryType::Fifo => self.make_node(path, FileType::Fifo, &member),
            EntryType::Char | EntryType::Block if !self.trust.devices => {
                if path == name {
                    return Err(Error::other("it is a device, which is made in no place but a guest"));
                }
                self.left_out.add(path, "it is a device");
                Ok(())
            }
            EntryType::Char => self.make_node(path, FileType::CharacterDevice, &member),
            EntryType::Block => self.make_node(path, FileType::BlockDevice, &member),
            other => {
                self.left_out.add(path, &format!("its kind is not known ({other:?})"));
                Ok(())
            }
        }
    }

    /// Makes room in what is remembered for one more name.
    fn remember(&mut self, path: &Path, link: Option<&Path>) -> Result<()> {
        self.names += path.as_os_str().len() + link.map_or(0, |link| link.as_os_str().len());
        if self.directories.len() + self.links.len() >= MOST_REMEMBERED || self.names > MOST_NAMES {
            return Err(invalid(format!(
                "more than {MOST_REMEMBERED} directories and links, or {} MiB of their names, in one copy",
                MOST_NAMES >> 20
            )));
        }
        Ok(())
    }

    fn add_directory(&mut self, path: &Path, attributes: Attributes) -> Result<()> {
        self.place.make_directory(path)?;
        if !self.directories.contains_key(path) {
            self.remember(path, None)?;
        }
        self.directories.insert(path.to_owned(), attributes);
        Ok(())
    }

    fn remember_link(&mut self, path: &Path, member: Member) -> Result<()> {
        self.remember(path, member.link.as_deref())?;
        self.links.push((path.to_owned(), member));
        Ok(())
    }

    fn make_link(&mut self, path: &Path, member: &Member) -> Result<()> {
        let target = member.link.as_deref().ok_or_else(|| Error::other("a link that leads nowhere"))?;
        self.place.make_way(path)?;
        let (parent, name) = self.place.parent(path)?;
        rustix::fs::symlinkat(target, parent, name)?;
        self.own(path, &member.attributes)
    }

    fn make_hard_link(&mut self, first: &Path, path: &Path) -> Result<()> {
        if self.trust.links == Links::Refused {
            let found = self.place.look(first)?.ok_or(ErrorKind::NotFound)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                return Err(ErrorKind::NotFound.into()); // that of an earlier copy, whose place one of this is to take
            }
            if !self.written.contains(&(found.st_dev, found.st_ino)) {
                return Err(Error::other("a link to a file that this copy has not written"));
            }
        }
        self.place.make_way(path)?;
        let first_parent = self.place.parent(first)?.0.try_clone()?;
        let (parent, name) = self.place.parent(path)?;
        let first_name = first.file_name().unwrap_or_default();
        Ok(rustix::fs::linkat(first_parent, first_name, parent, name, AtFlags::empty())?)
    }

    fn write_file<R: Read>(&mut self, members: &mut Members<R>, member: &Member, path: &Path) -> Result<()> {
        self.place.make_way(path)?;
        let (parent, name) = self.place.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
        if self.trust.links == Links::Refused && self.written.len() < MOST_REMEMBERED {
            let found = rustix::fs::fstat(&file)?;
            self.written.insert((found.st_dev, found.st_ino));
        }
        let mut body = members.body();
        match &member.contents {
            Contents::Dense => {
                let size = write_sparsely(&mut body, &file, 0, &mut self.buffer)?;
                file.set_len(size)?;
            }
            Contents::Sparse { pieces, size } => {
                for (offset, length) in pieces {
                    write_sparsely(&mut (&mut body).take(*length), &file, *offset, &mut self.buffer)?;
                }
                file.set_len(*size)?;
            }
        }
        if self.trust.owners {
            let (uid, gid) = owner(&member.attributes)?;
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, self.mode(&member.attributes))?;
        Ok(rustix::fs::futimens(&file, &times(&member.attributes))?)
    }

    /// Gives what is no file and no directory its owner and time.
    fn own(&mut self, path: &Path, attributes: &Attributes) -> Result<()> {
        let owners = self.trust.owners;
        let (parent, name) = self.place.parent(path)?;
        if owners {
            let (uid, gid) = owner(attributes)?;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(parent, name, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn make_node(&mut self, path: &Path, kind: FileType, member: &Member) -> Result<()> {
        self.place.make_way(path)?;
        let mode = self.mode(&member.attributes);
        let (major, minor) = member.device;
        let (parent, name) = self.place.parent(path)?;
        rustix::fs::mknodat(parent, name, kind, mode, makedev(major, minor))?;
        // Of the mode the umask has taken its part.
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        self.own(path, &member.attributes)
    }

    fn mode(&self, attributes: &Attributes) -> Mode {
        let kept = if self.trust.owners { 0o7777 } else { 0o7777 & !PRIVILEGES };
        Mode::from_raw_mode(attributes.mode & kept)
    }

    /// Makes the links that no name was to lead through, and closes the directories: the last comes
    /// first, for it may lie in another one.
    fn finish(&mut self) -> Result<()> {
        for (path, member) in std::mem::take(&mut self.links) {
            let made = match member.kind {
                EntryType::Symlink => self.make_link(&path, &member),
                _ => self.make_link_again(&member, &path),
            };
            made.map_err(|error| named(&path, &error))?;
        }
        for (path, attributes) in std::mem::take(&mut self.directories).iter().rev() {
            self.close(path, attributes).map_err(|error| named(path, &error))?;
        }
        Ok(())
    }

    /// Gives a symbolic link of the archive a second name: another link that leads where it does.
    fn make_link_again(&mut self, member: &Member, path: &Path) -> Result<()> {
        let first = relative(member.link.as_deref().unwrap_or(Path::new("")))?;
        let (parent, name) = self.place.parent(&first)?;
        let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
        self.place.make_way(path)?;
        let (parent, name) = self.place.parent(path)?;
        rustix::fs::symlinkat(&target, parent, name)?;
        self.own(path, &member.attributes)
    }

    fn close(&mut self, path: &Path, attributes: &Attributes) -> Result<()> {
        let directory = self.place.look_up(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if self.trust.owners {
            let (uid, gid) = owner(attributes)?;
            rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&directory, self.mode(attributes))?;
        Ok(rustix::fs::futimens(&directory, &times(attributes))?)
    }
}

fn owner(attributes: &Attributes) -> Result<(Uid, Gid)> {
    let number = |number: Option<u64>| u32::try_from(number?).ok().filter(|number| *number != u32::MAX);
    match (number(attributes.uid), number(attributes.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(invalid("its owner is no number of a user")),
    }
}

fn times(attributes: &Attributes) -> Timestamps {
    let time = Timespec { tv_sec: attributes.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Writes with holes where nothing is, from an offset on, to the end of what comes; where it ended.
fn write_sparsely(from: &mut impl Read, file: &File, offset: u64, buffer: &mut [u8]) -> Result<u64> {
    let mut at = offset;
    loop {
        let count = fill(from, buffer)?;
        if count == 0 {
            return Ok(at);
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
