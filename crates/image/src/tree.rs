//! The file system that an image's layers make, as metadata in memory: where the contents lie, not what they are.

use std::collections::BTreeMap;

use crate::entry::{Entry, Kind};
use crate::error::{Result, content};

/// Most entries of an image; more is an attack or a mistake.
const MOST_ENTRIES: usize = 5_000_000;
/// Most symbolic links on the way to a parent, as Linux has it (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A path below the root: components joined by `/`, none of them `.` or `..`; the root is empty.
pub(crate) type Path = Vec<u8>;

/// Joined layers.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    paths: BTreeMap<Path, Name>,
    /// Files by number. Several names may share one: hard links.
    inodes: Vec<Entry>,
    layer: usize,
    /// Files that aufs keeps in this layer, by their names there.
    aufs_links: BTreeMap<Vec<u8>, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    inode: usize,
    /// The layer that put it there: a whiteout hides only what lies lower.
    layer: usize,
}

impl Tree {
    /// Begins the next layer, which lies over all before it.
    pub(crate) fn next_layer(&mut self) {
        self.layer += 1;
        self.aufs_links.clear();
    }

    /// Every name in order, parents first, with its file's number and the file.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Path, usize, &Entry)> {
        self.paths.iter().map(|(path, name)| (path, name.inode, &self.inodes[name.inode]))
    }

    /// Adds an entry as a layer's tar has it; `raw` is its name there.
    pub(crate) fn add(&mut self, raw: &[u8], entry: Entry) -> Result<()> {
        if is_aufs_own(raw) {
            self.keep_aufs_link(raw, entry);
            return Ok(());
        }
        let Some((parent, name)) = split(raw)? else {
            // The root itself: its metadata counts.
            if matches!(entry.kind, Kind::Directory) {
                self.insert(Path::new(), entry)?;
            }
            return Ok(());
        };
        let parent = self.resolve(raw, &parent)?;
        if name == b".wh..wh..opq" {
            self.hide_children(&parent);
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(refused(raw, "it is a whiteout of nothing"));
            }
            self.hide(&join(&parent, hidden));
            return Ok(());
        }
        self.make_parents(raw, &parent)?;
        self.insert(join(&parent, &name), entry)
    }

    /// Adds another name for a file that is there.
    pub(crate) fn link(&mut self, raw: &[u8], target: &[u8]) -> Result<()> {
        if is_aufs_own(raw) {
            return Ok(());
        }
        let resolve = |tree: &Tree, raw_path: &[u8]| -> Result<Option<(Path, Path)>> {
            let parts =
                split(raw_path).map_err(|_| refused(raw, "it or its target leads out of the image"))?;
            let Some((parent, name)) = parts else {
                return Ok(None);
            };
            let parent = tree.resolve(raw, &parent)?;
            let path = join(&parent, &name);
            Ok(Some((parent, path)))
        };
        if let Some(&inode) = self.aufs_links.get(target) {
            let Some((parent, path)) = resolve(self, raw)? else {
                return Err(refused(raw, "the root cannot be a hard link"));
            };
            return self.add_name(raw, &parent, path, inode);
        }
        let Some((_, target_path)) = resolve(self, target)? else {
            return Err(refused(raw, "it is a hard link to the root"));
        };
        let Some((parent, path)) = resolve(self, raw)? else {
            return Err(refused(raw, "the root cannot be a hard link"));
        };
        let Some(&Name { inode, .. }) = self.paths.get(&target_path) else {
            return Err(refused(raw, &format!("it is a hard link to {}, which is not there", show(target))));
        };
        if matches!(self.inodes[inode].kind, Kind::Directory) {
            return Err(refused(raw, "it is a hard link to a directory"));
        }
        if path == target_path {
            return Ok(());
        }
        self.add_name(raw, &parent, path, inode)
    }

    /// Gives a file another name.
    fn add_name(&mut self, raw: &[u8], parent: &[u8], path: Path, inode: usize) -> Result<()> {
        self.make_parents(raw, parent)?;
        self.remove_with_children(&path, usize::MAX);
        self.paths.insert(path, Name { inode, layer: self.layer });
        Ok(())
    }

    /// Remembers a file that aufs keeps for those in the layer that are hard links to it; it has no other name.
    fn keep_aufs_link(&mut self, raw: &[u8], entry: Entry) {
        let is_file = matches!(entry.kind, Kind::File(_));
        if is_file && raw.starts_with(b".wh..wh.plnk/") && self.inodes.len() < MOST_ENTRIES {
            self.inodes.push(entry);
            self.aufs_links.insert(raw.to_vec(), self.inodes.len() - 1);
        }
    }

    /// Puts a file in its place. A directory over a directory keeps what is in it; anything else replaces all.
    fn insert(&mut self, path: Path, entry: Entry) -> Result<()> {
        if self.inodes.len() >= MOST_ENTRIES {
            return Err(content("the image", format!("it has more than {MOST_ENTRIES} entries")));
        }
        let is_directory = |inode: usize| matches!(self.inodes[inode].kind, Kind::Directory);
        let keep = matches!(entry.kind, Kind::Directory)
            && self.paths.get(&path).is_some_and(|n| is_directory(n.inode));
        if !keep {
            self.remove_with_children(&path, usize::MAX);
        }
        self.inodes.push(entry);
        self.paths.insert(path, Name { inode: self.inodes.len() - 1, layer: self.layer });
        Ok(())
    }

    /// Directories that no layer has an entry for are root's, as everywhere.
    fn make_parents(&mut self, raw: &[u8], parent: &[u8]) -> Result<()> {
        let ends = parent.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in ends.chain([parent.len()]).filter(|end| *end > 0).collect::<Vec<_>>() {
            match self.paths.get(&parent[..end]).map(|name| &self.inodes[name.inode].kind) {
                None => self.insert(parent[..end].to_vec(), Entry::directory())?,
                Some(Kind::Directory) => {}
                Some(_) => return Err(refused(raw, &format!("{} is no directory", show(&parent[..end])))),
            }
        }
        Ok(())
    }

    /// Follows the symbolic links in `parent` inside the tree, as the guest would.
    fn resolve(&self, raw: &[u8], parent: &[u8]) -> Result<Path> {
        let mut todo: Vec<Vec<u8>> = components(parent).rev().map(<[u8]>::to_vec).collect();
        let mut done: Path = Vec::new();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            match &component[..] {
                b"." => continue,
                b".." if done.is_empty() => {
                    return Err(refused(raw, "it lies behind a symbolic link that leads out of the image"));
                }
                b".." => {
                    done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&done, &component);
            match self.paths.get(&next).map(|name| &self.inodes[name.inode].kind) {
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(refused(raw, "it lies behind a loop of symbolic links"));
                    }
                    if target.starts_with(b"/") {
                        done.clear();
                    }
                    todo.extend(components(target).rev().map(<[u8]>::to_vec));
                }
                _ => done = next,
            }
        }
        Ok(done)
    }

    fn hide(&mut self, path: &[u8]) {
        self.remove_with_children(path, self.layer);
    }

    fn hide_children(&mut self, directory: &[u8]) {
        let hidden: Vec<Path> = self
            .below(directory)
            .filter(|(_, name)| name.layer < self.layer)
            .map(|(p, _)| p.clone())
            .collect();
        for path in hidden {
            // A directory that this layer has put something into stays.
            if self.below(&path).all(|(_, name)| name.layer < self.layer) {
                self.paths.remove(&path);
            }
        }
    }

    /// Removes a name and all below it, as far as they come from layers below `layer`.
    fn remove_with_children(&mut self, path: &[u8], layer: usize) {
        let lower: Vec<Path> =
            self.below(path).filter(|(_, name)| name.layer < layer).map(|(p, _)| p.clone()).collect();
        for child in lower {
            self.paths.remove(&child);
        }
        let keeps_children = self.below(path).next().is_some();
        if self.paths.get(path).is_some_and(|name| name.layer < layer) && !keeps_children {
            self.paths.remove(path);
        }
    }

    fn below(&self, directory: &[u8]) -> impl Iterator<Item = (&Path, &Name)> {
        // Everything that begins with `directory/`: `0` is the byte after `/`. Below the root lies all but itself.
        let (from, to) = match directory {
            [] => (vec![1], vec![0xff; 8]),
            _ => (join(directory, b""), [directory, b"0"].concat()),
        };
        self.paths.range(from..to)
    }
}

/// What aufs keeps for itself in a layer (`.wh..wh.plnk`, `.wh..wh.aufs` and all below), which is none of the image's.
/// The mark of an opaque directory looks alike.
fn is_aufs_own(raw: &[u8]) -> bool {
    components(raw).any(|part| part.starts_with(b".wh..wh.") && part != b".wh..wh..opq")
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

fn join(directory: &[u8], name: &[u8]) -> Path {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Parent and last component of a name in a tar; `None` for the root. Names there are relative to the root, with or
/// without `./` or `/` before them.
fn split(raw: &[u8]) -> Result<Option<(Path, Vec<u8>)>> {
    if raw.len() > 4096 || raw.contains(&0) {
        return Err(refused(
            &raw[..raw.len().min(100)],
            "its name is longer than a path may be, or holds a NUL",
        ));
    }
    let mut parts: Vec<&[u8]> = components(raw).filter(|component| *component != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(refused(raw, "its name leads out of its directory with `..`"));
    }
    if parts.iter().any(|part| part.len() > 255) {
        return Err(refused(raw, "a part of its name is longer than 255 bytes"));
    }
    Ok(parts.pop().map(|name| (parts.join(&b'/'), name.to_vec())))
}

fn refused(raw: &[u8], reason: &str) -> crate::error::Error {
    content(format!("entry {}", show(raw)), reason)
}

pub(crate) fn show(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

#[cfg(test)]
mod tests;
