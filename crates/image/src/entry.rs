//! A file of an image.

/// A file of any kind, without its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// Extended attributes: name and value.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Directory,
    File(Location),
    Symlink(Vec<u8>),
    CharacterDevice(u32, u32),
    Fifo,
}

/// Where the content of a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Number of the spooled layer.
    pub(crate) layer: usize,
    /// First byte in it.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
}

impl Entry {
    /// A directory as one is made without an entry.
    pub(crate) fn directory() -> Entry {
        Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() }
    }
}
