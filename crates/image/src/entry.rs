//! An entry of a layer.

use std::fs::File;

use tar::EntryType;

use crate::error::{Error, Result, content};
use crate::members::{Member, Members};
use crate::tree::{Tree, show};

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

/// Devices that do nothing to a host, by major and minor: null, zero, full, random, urandom, tty, console, ptmx
/// (Linux, Documentation/admin-guide/devices.txt). They are in every root filesystem; any other is a trick.
const HARMLESS_DEVICES: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];

/// Adds all entries of layer number `layer` to the tree.
pub(crate) fn read_layer(tree: &mut Tree, layer: usize, what: &str, tar: &File) -> Result<()> {
    let broken = |error: std::io::Error| content(what, error);
    tree.next_layer();
    for member in Members::new(tar.try_clone().map_err(broken)?).map_err(broken)? {
        let member = member.map_err(broken)?;
        add(tree, layer, &member).map_err(|error| match error {
            Error::Content { what: entry, reason } => content(format!("{what}: {entry}"), reason),
            other => other,
        })?;
    }
    Ok(())
}

fn add(tree: &mut Tree, layer: usize, member: &Member) -> Result<()> {
    let refuse = |reason: &str| Err(content(format!("entry {}", show(&member.path)), reason));
    let kind = match member.kind {
        EntryType::Regular | EntryType::Continuous => {
            Kind::File(Location { layer, offset: member.offset, size: member.size })
        }
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(member.link.clone()),
        EntryType::Link => return tree.link(&member.path, &member.link),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char if HARMLESS_DEVICES.contains(&member.device) => {
            Kind::CharacterDevice(member.device.0, member.device.1)
        }
        EntryType::Char | EntryType::Block => {
            let (major, minor) = member.device;
            return refuse(&format!("it is the device {major}:{minor}, which no image should have"));
        }
        EntryType::GNUSparse => return refuse("it is a sparse member; make the tar without --sparse"),
        other => return refuse(&format!("its type {other:?} is not supported")),
    };
    let entry = Entry {
        kind,
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        mtime: member.mtime,
        xattrs: member.xattrs.clone(),
    };
    tree.add(&member.path, entry)
}
