//! An entry of a layer.

use std::io::Read;

use crate::error::{Result, content};
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
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
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
        Entry {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: Vec::new(),
        }
    }
}

/// Devices that do nothing to a host, by major and minor: null, zero, full, random, urandom, tty, console, ptmx
/// (Linux, Documentation/admin-guide/devices.txt). They are in every root filesystem; any other is a trick.
const HARMLESS_DEVICES: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];

/// Adds all entries of layer number `layer` to the tree. The tar is read to its end, which has to be a proper one.
pub(crate) fn read_layer(tree: &mut Tree, layer: usize, what: &str, tar: impl Read) -> Result<()> {
    let broken = |error: std::io::Error| content(what, format!("{error}; is it cut off?"));
    let mut archive = tar::Archive::new(tar);
    tree.next_layer();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let raw = entry.path_bytes().into_owned();
        add(tree, layer, &mut entry, &raw).map_err(|error| match error {
            crate::error::Error::Content { what: entry, reason } => {
                content(format!("{what}: {entry}"), reason)
            }
            other => other,
        })?;
    }
    Ok(())
}

fn add<R: Read>(tree: &mut Tree, layer: usize, entry: &mut tar::Entry<'_, R>, raw: &[u8]) -> Result<()> {
    use tar::EntryType;
    let broken = |error: std::io::Error| content(format!("entry {}", show(raw)), error);
    let header = entry.header().clone();
    let link_target = || {
        entry
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default()
    };
    let refuse = |reason: String| Err(content(format!("entry {}", show(raw)), reason));
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => Kind::File(Location {
            layer,
            offset: entry.raw_file_position(),
            size: entry.size(),
        }),
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link_target()),
        EntryType::Link => return tree.link(raw, &link_target()),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => {
            let numbers = (
                header.device_major().map_err(broken)?,
                header.device_minor().map_err(broken)?,
            );
            match numbers {
                (Some(major), Some(minor)) if HARMLESS_DEVICES.contains(&(major, minor)) => {
                    Kind::CharacterDevice(major, minor)
                }
                other => return refuse(format!("it is a device that no image should have: {other:?}")),
            }
        }
        EntryType::Block => return refuse("it is a block device, which no image should have".to_owned()),
        // Comments of the archive as a whole.
        EntryType::XGlobalHeader => return Ok(()),
        other => return refuse(format!("its type {other:?} is not supported")),
    };
    let xattrs = xattrs(entry).map_err(broken)?;
    let entry = Entry {
        kind,
        mode: header.mode().map_err(broken)? & 0o7777,
        uid: header.uid().map_err(broken)?,
        gid: header.gid().map_err(broken)?,
        mtime: header.mtime().unwrap_or(0),
        xattrs,
    };
    tree.add(raw, entry)
}

/// Extended attributes as GNU tar and Go write them: PAX records `SCHILY.xattr.NAME`.
fn xattrs<R: Read>(entry: &mut tar::Entry<'_, R>) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    if let Some(records) = entry.pax_extensions()? {
        for record in records {
            let record = record?;
            if let Some(name) = record
                .key()
                .ok()
                .and_then(|key| key.strip_prefix("SCHILY.xattr."))
            {
                xattrs.push((name.to_owned(), record.value_bytes().to_vec()));
            }
        }
    }
    Ok(xattrs)
}
