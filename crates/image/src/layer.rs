//! The entries of a layer on their way into the tree.

use std::fs::File;

use tar::EntryType;

use crate::entry::{Entry, Kind, Location};
use crate::error::{Error, Result, content};
use crate::limits::LONGEST_PATH;
use crate::members::{Member, Members};
use crate::progress::Progress;
use crate::spool::Blob;
use crate::tree::{Tree, show};

/// Devices that do nothing to a host, by major and minor: null, zero, full, random, urandom, tty,
/// console, ptmx (Linux, Documentation/admin-guide/devices.txt). They are in every root filesystem;
/// any other is a trick.
const HARMLESS_DEVICES: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];

/// Largest number of a user or group: file systems have 32 bits for it, and the last of them means
/// nobody (chown(2)).
const MAX_OWNER: u32 = u32::MAX - 1;

/// Most device nodes that a warning names.
const NAMED: usize = 6;

/// Adds all entries of layer number `layer` to the tree; `tar` is what `blob` holds.
pub(crate) fn read_layer(
    tree: &mut Tree,
    layer: u32,
    blob: &Blob,
    tar: &File,
    progress: &dyn Progress,
) -> Result<()> {
    let what = &blob.what;
    let broken = |error: std::io::Error| content(what, error);
    let (mut devices, mut named) = (0, Vec::new());
    tree.next_layer();
    for member in Members::new(tar.try_clone().map_err(broken)?, blob.is_promised()).map_err(broken)? {
        let member = member.map_err(broken)?;
        if is_foreign_device(&member) {
            devices += 1;
            if named.len() < NAMED {
                named.push(show(&member.path));
            }
            continue;
        }
        add(tree, layer, &member).map_err(|error| match error {
            Error::Content { what: entry, reason } => content(format!("{what}: {entry}"), reason),
            other => other,
        })?;
    }
    if devices > 0 {
        let more = if devices > NAMED { ", ..." } else { "" };
        progress.warn(&format!(
            "{what}: {devices} device nodes are left out, for a VM has a /dev of its own: {}{more}",
            named.join(", ")
        ));
    }
    Ok(())
}

/// Whether it is a device below /dev, where the guest's own devices cover it, that is not in every
/// root filesystem.
fn is_foreign_device(member: &Member) -> bool {
    let is_device = matches!(member.kind, EntryType::Char | EntryType::Block);
    let is_harmless = member.kind == EntryType::Char && HARMLESS_DEVICES.contains(&member.device);
    let mut parts = member.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    is_device && !is_harmless && parts.next() == Some(b"dev") && parts.all(|part| part != b"..")
}

fn add(tree: &mut Tree, layer: u32, member: &Member) -> Result<()> {
    let refuse = |reason: &str| Err(content(format!("entry {}", show(&member.path)), reason));
    let kind = match member.kind {
        EntryType::Regular | EntryType::Continuous => {
            Kind::File(Location { layer, offset: member.offset, size: member.size })
        }
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink if member.link.len() >= LONGEST_PATH => {
            return refuse("its target is longer than a path may be");
        }
        EntryType::Symlink => Kind::Symlink(member.link.as_slice().into()),
        EntryType::Link => return tree.link(&member.path, &member.link),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char if HARMLESS_DEVICES.contains(&member.device) => {
            Kind::CharacterDevice(member.device.0, member.device.1)
        }
        EntryType::Char | EntryType::Block => {
            let (major, minor) = member.device;
            return refuse(&format!("it is the device {major}:{minor}, which no image should have"));
        }
        EntryType::GNUSparse => return refuse("it is a sparse member, which cannot be taken"),
        other => return refuse(&format!("its type {other:?} is not supported")),
    };
    let owner = |number: u64| u32::try_from(number).ok().filter(|number| *number <= MAX_OWNER);
    let (Some(uid), Some(gid)) = (owner(member.uid), owner(member.gid)) else {
        return refuse(&format!(
            "its owner {}:{} is none: the largest number is {MAX_OWNER}",
            member.uid, member.gid
        ));
    };
    let entry =
        Entry { kind, mode: member.mode, uid, gid, mtime: member.mtime, xattrs: member.xattrs.clone() };
    tree.add(&member.path, entry)
}
