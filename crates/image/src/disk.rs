//! From a tree to a read-only disk: one tar stream into `tar2sqfs`.
//!
//! Of Debian 12's tools it is the one that makes a file system from a tar stream with ownership,
//! devices, hard links and extended attributes and without privileges: mkfs.erofs 1.5 and mke2fs
//! 1.47.0 want a directory. (`mksquashfs -tar` of squashfs-tools 4.5.1 would do too; tar2sqfs reads
//! PAX records that it stumbles over.)

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Stdio};

use hypeman_files::AtPath;

use crate::entry::{Entry, Kind, Location};
use crate::error::Result;
use crate::progress::Progress;
use crate::spool::Spooled;
use crate::tool;
use crate::tree::{NodeId, Tree};

const TOOL: &str = "tar2sqfs";

/// The extended attributes that a squashfs can hold (Linux, fs/squashfs/squashfs_fs.h). Others are
/// POSIX ACLs, which a Debian has on its journal's directory only.
const XATTR_PREFIXES: [&str; 3] = ["user.", "trusted.", "security."];

/// Writes the tree to a squashfs at `path`.
pub(crate) fn write(tree: &Tree, layers: &[Spooled], path: &Path, progress: &dyn Progress) -> Result<()> {
    tree.check_crowds()?;
    let total = total(tree);
    progress.start("making the disk", Some(total));
    let mut child = start(path)?;
    let stdin = child.stdin.take();
    let streamed = match stdin {
        Some(stdin) => stream(tree, layers, BufWriter::with_capacity(256 * 1024, stdin), progress),
        None => Err(std::io::Error::other("no pipe")),
    };
    let output = child.wait_with_output().map_err(|error| tool::failed(TOOL, error))?;
    // When the tool gave up, its words tell more than our broken pipe; but a full disk is just an
    // "I/O error" to it, and by then it has removed what filled the disk.
    if output.stderr.windows(9).any(|words| words == b"I/O error") && free(path) < total {
        return Ok(Err(rustix::io::Errno::NOSPC).at(path)?);
    }
    tool::check(TOOL, &output)?;
    streamed.map_err(|error| tool::failed(TOOL, error))?;
    File::open(path).and_then(|file| file.sync_all()).at(path)?;
    Ok(())
}

/// Free bytes of the disk on which `path` is to be.
fn free(path: &Path) -> u64 {
    let directory = path.parent().unwrap_or(path);
    rustix::fs::statvfs(directory).map_or(0, |disk| disk.f_bavail * disk.f_frsize)
}

/// Bytes of all files, those with several names once for each.
pub(crate) fn total(tree: &Tree) -> u64 {
    let mut total = 0_u64;
    let Ok(()) = tree.visit(&mut |_, _, _, entry| {
        if let Kind::File(Location { size, .. }) = entry.kind {
            total = total.saturating_add(size);
        }
        Ok::<_, Infallible>(())
    });
    total
}

fn start(path: &Path) -> Result<Child> {
    let mut command = tool::command(TOOL, "squashfs-tools-ng")?;
    // lz4 is the one that costs a guest on TCG next to nothing to read.
    command.args(["--quiet", "--force", "--compressor", "lz4", "--no-skip"]).arg(path);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|error| tool::failed(TOOL, error))
}

fn stream(tree: &Tree, layers: &[Spooled], out: impl Write, progress: &dyn Progress) -> std::io::Result<()> {
    let mut builder = tar::Builder::new(out);
    let mut first_names: HashMap<usize, NodeId> = HashMap::new();
    tree.visit(&mut |node, path, inode, entry| {
        // The root is no entry of its own to tar2sqfs unless it is called `./`.
        let name: &[u8] = if path.is_empty() { b"./" } else { path };
        if let Some(first) = first_names.get(&inode) {
            return append_link(&mut builder, name, &tree.path(*first), entry, tar::EntryType::Link);
        }
        if tree.is_linked(inode) {
            first_names.insert(inode, node);
        }
        append(&mut builder, name, entry, layers, progress)
    })?;
    builder.into_inner()?.flush()
}

fn append(
    builder: &mut tar::Builder<impl Write>,
    name: &[u8],
    entry: &Entry,
    layers: &[Spooled],
    progress: &dyn Progress,
) -> std::io::Result<()> {
    let records: Vec<(String, &[u8])> = entry
        .xattrs
        .iter()
        .flat_map(|xattrs| xattrs.iter())
        .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
        .filter(|(name, _)| XATTR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, value)| (format!("SCHILY.xattr.{name}"), &value[..]))
        .collect();
    if !records.is_empty() {
        builder.append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))?;
    }
    let mut header = header(entry);
    match &entry.kind {
        Kind::Symlink(target) => return append_link(builder, name, target, entry, tar::EntryType::Symlink),
        Kind::File(location) => {
            header.set_size(location.size);
            let mut file = &layers[location.layer as usize].file;
            file.seek(SeekFrom::Start(location.offset))?;
            builder.append_data(&mut header, OsStr::from_bytes(name), file.take(location.size))?;
            progress.advance(location.size);
            return Ok(());
        }
        Kind::Directory => header.set_entry_type(tar::EntryType::Directory),
        Kind::Fifo => header.set_entry_type(tar::EntryType::Fifo),
        Kind::CharacterDevice(major, minor) => {
            header.set_entry_type(tar::EntryType::Char);
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
        }
    }
    builder.append_data(&mut header, OsStr::from_bytes(name), std::io::empty())
}

fn append_link(
    builder: &mut tar::Builder<impl Write>,
    name: &[u8],
    target: &[u8],
    entry: &Entry,
    kind: tar::EntryType,
) -> std::io::Result<()> {
    let mut header = header(entry);
    header.set_entry_type(kind);
    builder.append_link(&mut header, OsStr::from_bytes(name), OsStr::from_bytes(target))
}

fn header(entry: &Entry) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(entry.mtime);
    header.set_size(0);
    header
}
