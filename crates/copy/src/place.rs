//! A directory below which names are looked up, so that a name leads where its writer may have it
//! lead.

use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2};
use rustix::io::Errno;

/// Treatment of symbolic links on the way to a name. A name that is a link itself is never
/// followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is an error: who has made the names, and maybe the links, is not trusted.
    Refused,
    /// It is followed, as by other users of the file system.
    Followed,
}

/// A directory.
pub(crate) struct Place {
    root: OwnedFd,
    links: Links,
    /// The parent that was looked up last: most names follow one of the same directory.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Place {
    pub(crate) fn open(directory: &Path, links: Links) -> Result<Place> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Place { root: rustix::fs::open(directory, flags, Mode::empty())?, links, last: None })
    }

    /// The directory of a name, made if it is not there, and the last part of the name.
    pub(crate) fn parent<'a>(&mut self, path: &'a Path) -> Result<(&OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() {
            return Ok((&self.root, name));
        }
        if self.last.as_ref().is_none_or(|(path, _)| path != parent) {
            let directory = match self.look_up(parent, OFlags::PATH | OFlags::DIRECTORY) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.make_directories(parent)?;
                    self.look_up(parent, OFlags::PATH | OFlags::DIRECTORY)?
                }
                found => found?,
            };
            self.last = Some((parent.to_owned(), directory));
        }
        match &self.last {
            Some((_, directory)) => Ok((directory, name)),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn make_directories(&self, path: &Path) -> Result<()> {
        let mut below = PathBuf::new();
        for part in path.components() {
            below.push(part);
            let (directory, name) = match below.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => (&self.look_up(parent, OFlags::PATH | OFlags::DIRECTORY)?, below.file_name()),
                None => (&self.root, below.file_name()),
            };
            match rustix::fs::mkdirat(directory, name.unwrap_or_default(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {} // what it is, is seen when it is looked up
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Opens what is called so; a link that it is itself only where links are followed.
    pub(crate) fn look_up(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let opened = match self.links {
            Links::Followed => openat(&self.root, path, flags, Mode::empty()),
            Links::Refused => {
                let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                openat2(&self.root, path, flags, Mode::empty(), within)
            }
        };
        opened.map_err(|error| match error {
            Errno::LOOP if self.links == Links::Refused => {
                Error::other("a link is on the way there, which is not followed")
            }
            Errno::NOSYS => Error::other("openat2(2) is missing; Linux 5.6 or newer is needed"),
            error => error.into(),
        })
    }

    /// The entry of this name, if there is one; a link itself.
    pub(crate) fn look(&mut self, path: &Path) -> Result<Option<Stat>> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a directory, unless there is one, or a link to one that may be followed.
    pub(crate) fn make_directory(&mut self, path: &Path) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) => match self.look_up(path, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => Ok(()),
                Err(_) => Err(Error::other("a directory cannot replace a file")),
            },
            made => Ok(made?),
        }
    }

    /// Removes what is to be replaced, and is no directory.
    pub(crate) fn make_way(&mut self, path: &Path) -> Result<()> {
        match self.look(path)? {
            None => Ok(()),
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                Err(Error::other("a file cannot replace a directory"))
            }
            Some(_) => {
                let (parent, name) = self.parent(path)?;
                Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
            }
        }
    }
}
