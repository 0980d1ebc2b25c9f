//! A file of an image.

use std::collections::BTreeMap;
use std::rc::Rc;

/// Extended attributes: values by names.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A file of any kind, without its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// `None` for a file without any.
    pub(crate) xattrs: Option<Rc<Xattrs>>,
}

/// Kind of a file, with its content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Directory,
    File(Location),
    Symlink(Box<[u8]>),
    CharacterDevice(u32, u32),
    Fifo,
}

/// Where the content of a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Number of the spooled layer.
    pub(crate) layer: u32,
    /// First byte in it.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
}

impl Entry {
    /// A directory as one is made without an entry.
    pub(crate) fn directory() -> Entry {
        Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: None }
    }
}
