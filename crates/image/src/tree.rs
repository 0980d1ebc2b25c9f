//! The file system that an image's layers make, as metadata in memory: where the contents lie, not
//! what they are.
//!
//! Names are joined to their directories, not written out, so that a deep name takes no more room
//! than a long one; and what a layer hides is looked at once for each layer, however often it says
//! so.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::entry::{Entry, Kind, Xattrs};
use crate::error::{Result, content};
use crate::limits::{
    LONGEST_PATH, MOST_CROWDING, MOST_DEPTH, MOST_ENTRIES, MOST_IN_DIRECTORY, MOST_METADATA,
};

mod inodes;
mod names;

use inodes::Inodes;
pub(crate) use names::show;
use names::{is_aufs_own, refused, split};

/// Number of a directory entry.
pub(crate) type NodeId = usize;

/// The root's number.
const ROOT: NodeId = 0;

/// Joined layers.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Nodes that are none any more.
    free: Vec<NodeId>,
    inodes: Inodes,
    layer: u32,
    /// Files that aufs keeps in this layer, by their names there.
    aufs_links: BTreeMap<Vec<u8>, usize>,
    /// Each set of extended attributes once.
    xattrs: BTreeSet<Rc<Xattrs>>,
    /// Bytes of names, targets and extended attributes.
    metadata: usize,
    /// Components of links' targets that were followed.
    followed: usize,
}

/// Is shown a name's number, its path, its file's number and the file.
type Visitor<'a, E> = dyn FnMut(NodeId, &[u8], usize, &Entry) -> std::result::Result<(), E> + 'a;

/// A name in a directory.
#[derive(Debug)]
struct Node {
    parent: NodeId,
    name: Box<[u8]>,
    children: BTreeMap<Box<[u8]>, NodeId>,
    /// Its file; the root may have none.
    inode: Option<usize>,
    /// The layer that put it there: a whiteout hides only what lies lower.
    layer: u32,
    /// The last layer that has hidden all that lies lower below it.
    hidden_by: u32,
}

/// Where an entry's parent is.
struct Place {
    /// The deepest directory on the way that is there.
    node: NodeId,
    /// Missing components below it.
    missing: Vec<Vec<u8>>,
}

impl Default for Tree {
    fn default() -> Tree {
        let root = Node {
            parent: ROOT,
            name: Box::default(),
            children: BTreeMap::new(),
            inode: None,
            layer: 0,
            hidden_by: 0,
        };
        Tree {
            nodes: vec![root],
            free: Vec::new(),
            inodes: Inodes::default(),
            layer: 0,
            aufs_links: BTreeMap::new(),
            xattrs: BTreeSet::new(),
            metadata: 0,
            followed: 0,
        }
    }
}

impl Tree {
    /// Begins the next layer, which lies over all before it.
    pub(crate) fn next_layer(&mut self) {
        self.layer += 1;
        for (name, inode) in std::mem::take(&mut self.aufs_links) {
            self.metadata -= name.len();
            self.inodes.unlink(inode);
        }
    }

    /// Visits every name, parents first.
    pub(crate) fn visit<E>(&self, visitor: &mut Visitor<'_, E>) -> std::result::Result<(), E> {
        self.visit_below(ROOT, &mut Vec::new(), visitor)
    }

    fn visit_below<E>(
        &self,
        node: NodeId,
        path: &mut Vec<u8>,
        visitor: &mut Visitor<'_, E>,
    ) -> std::result::Result<(), E> {
        if let Some(inode) = self.nodes[node].inode {
            visitor(node, path, inode, self.inodes.get(inode))?;
        }
        let length = path.len();
        for (name, &child) in &self.nodes[node].children {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            self.visit_below(child, path, visitor)?; // at most `MOST_DEPTH` deep
            path.truncate(length);
        }
        Ok(())
    }

    /// Refuses directories that would keep the tool that makes the disk busy for minutes.
    pub(crate) fn check_crowds(&self) -> Result<()> {
        let sizes = || self.nodes.iter().map(|node| node.children.len());
        if let Some(largest) = sizes().max().filter(|size| *size > MOST_IN_DIRECTORY) {
            let reason = format!("a directory in it has {largest} entries; {MOST_IN_DIRECTORY} are allowed");
            return Err(content("the image", reason));
        }
        let crowding: u64 = sizes().map(|size| (size * size) as u64).sum();
        if crowding > MOST_CROWDING {
            return Err(content(
                "the image",
                "it has too many directories with tens of thousands of entries",
            ));
        }
        Ok(())
    }

    /// Whether a file has more names than one.
    pub(crate) fn is_linked(&self, inode: usize) -> bool {
        self.inodes.names(inode) > 1
    }

    /// The path of a name.
    pub(crate) fn path(&self, node: NodeId) -> Vec<u8> {
        let mut names: Vec<&[u8]> = self.upwards(node).map(|node| &*self.nodes[node].name).collect();
        names.reverse();
        names.join(&b'/')
    }

    /// Adds an entry as a layer's tar has it; `raw` is its name there.
    pub(crate) fn add(&mut self, raw: &[u8], entry: Entry) -> Result<()> {
        if is_aufs_own(raw) {
            return self.keep_aufs_link(raw, entry);
        }
        let Some((parent, name)) = split(raw)? else {
            // The root itself: its metadata counts.
            return if matches!(entry.kind, Kind::Directory) { self.set_root(entry) } else { Ok(()) };
        };
        let place = self.resolve(raw, &parent)?;
        if name == b".wh..wh..opq" {
            if place.missing.is_empty() {
                self.hide_below(place.node);
            }
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(refused(raw, "it is a whiteout of nothing"));
            }
            if place.missing.is_empty() {
                self.hide(place.node, hidden);
            }
            return Ok(());
        }
        let parent = self.make_parents(raw, place)?;
        self.insert(parent, &name, entry)
    }

    /// Adds another name for a file that is there.
    pub(crate) fn link(&mut self, raw: &[u8], target: &[u8]) -> Result<()> {
        if is_aufs_own(raw) {
            return Ok(());
        }
        let parts =
            |path: &[u8]| split(path).map_err(|_| refused(raw, "it or its target leads out of the image"));
        let inode = match self.aufs_links.get(target) {
            Some(&inode) => inode,
            None => {
                let (parent, name) =
                    parts(target)?.ok_or_else(|| refused(raw, "it is a hard link to the root"))?;
                let place = self.resolve(raw, &parent)?;
                let found = self.child(&place, &name).and_then(|node| self.nodes[node].inode);
                let missing =
                    || refused(raw, &format!("it is a hard link to {}, which is not there", show(target)));
                found.ok_or_else(missing)?
            }
        };
        let (parent, name) = parts(raw)?.ok_or_else(|| refused(raw, "the root cannot be a hard link"))?;
        if matches!(self.inodes.get(inode).kind, Kind::Directory) {
            return Err(refused(raw, "it is a hard link to a directory"));
        }
        let place = self.resolve(raw, &parent)?;
        if self.child(&place, &name).is_some_and(|node| self.nodes[node].inode == Some(inode)) {
            return Ok(());
        }
        let parent = self.make_parents(raw, place)?;
        self.inodes.link(inode);
        // The old entry may have been a directory with the target in it.
        self.detach(parent, &name);
        self.attach(parent, &name, inode)
    }

    fn set_root(&mut self, entry: Entry) -> Result<()> {
        let inode = self.new_inode(entry)?;
        if let Some(before) = self.nodes[ROOT].inode.replace(inode) {
            self.inodes.unlink(before);
        }
        Ok(())
    }

    /// Remembers a file that aufs keeps for those in the layer that are hard links to it; it has no
    /// other name.
    fn keep_aufs_link(&mut self, raw: &[u8], entry: Entry) -> Result<()> {
        let is_file = matches!(entry.kind, Kind::File(_));
        if is_file && raw.starts_with(b".wh..wh.plnk/") && raw.len() <= LONGEST_PATH {
            let inode = self.new_inode(entry)?;
            self.charge(raw.len())?;
            match self.aufs_links.insert(raw.to_vec(), inode) {
                None => {}
                Some(before) => {
                    self.metadata -= raw.len();
                    self.inodes.unlink(before);
                }
            }
        }
        Ok(())
    }

    /// Puts a file in its place. A directory over a directory keeps what is in it; anything else
    /// replaces all.
    fn insert(&mut self, parent: NodeId, name: &[u8], entry: Entry) -> Result<()> {
        let inode = self.new_inode(entry)?;
        let is_directory = |tree: &Tree, inode: usize| matches!(tree.inodes.get(inode).kind, Kind::Directory);
        if let Some(&node) = self.nodes[parent].children.get(name)
            && let Some(before) = self.nodes[node].inode
            && is_directory(self, before)
            && is_directory(self, inode)
        {
            self.nodes[node].inode = Some(inode);
            self.nodes[node].layer = self.layer;
            self.forget(before);
            return Ok(());
        }
        self.detach(parent, name);
        self.attach(parent, name, inode)
    }

    /// Directories that no layer has an entry for are root's, as everywhere.
    fn make_parents(&mut self, raw: &[u8], place: Place) -> Result<NodeId> {
        let mut parent = place.node;
        if self.nodes[parent]
            .inode
            .is_some_and(|inode| !matches!(self.inodes.get(inode).kind, Kind::Directory))
        {
            return Err(refused(raw, &format!("{} is no directory", show(&self.path(parent)))));
        }
        for name in place.missing {
            let inode = self.new_inode(Entry::directory())?;
            self.attach(parent, &name, inode)?;
            parent = self.nodes[parent].children[&name[..]];
        }
        Ok(parent)
    }

    fn child(&self, place: &Place, name: &[u8]) -> Option<NodeId> {
        place.missing.is_empty().then(|| self.nodes[place.node].children.get(name).copied()).flatten()
    }

    fn new_inode(&mut self, mut entry: Entry) -> Result<usize> {
        if self.inodes.len() >= MOST_ENTRIES {
            return Err(content("the image", format!("it has more than {MOST_ENTRIES} entries")));
        }
        if let Kind::Symlink(target) = &entry.kind {
            self.charge(target.len())?;
        }
        if let Some(xattrs) = &mut entry.xattrs {
            match self.xattrs.get(xattrs) {
                Some(same) => *xattrs = same.clone(),
                None => {
                    self.xattrs.insert(xattrs.clone());
                    let bytes = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                    self.charge(bytes)?;
                }
            }
        }
        Ok(self.inodes.add(entry))
    }

    /// Lets go of one name of a file.
    fn forget(&mut self, inode: usize) {
        if let Some(Kind::Symlink(target)) = self.inodes.unlink(inode) {
            self.metadata -= target.len();
        }
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        self.metadata += bytes;
        if self.metadata > MOST_METADATA {
            let limit = MOST_METADATA >> 20;
            return Err(content(
                "the image",
                format!("its names, links and attributes take more than {limit} MiB"),
            ));
        }
        Ok(())
    }

    /// Gives a file, which counts this name already, a name that is free.
    fn attach(&mut self, parent: NodeId, name: &[u8], inode: usize) -> Result<()> {
        if self.nodes.len() - self.free.len() > MOST_ENTRIES {
            return Err(content("the image", format!("it has more than {MOST_ENTRIES} entries")));
        }
        self.charge(name.len())?;
        let node = Node {
            parent,
            name: name.into(),
            children: BTreeMap::new(),
            inode: Some(inode),
            layer: self.layer,
            hidden_by: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id] = node;
                id
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[parent].children.insert(name.into(), id);
        Ok(())
    }

    /// Removes a name and all below it.
    fn detach(&mut self, parent: NodeId, name: &[u8]) {
        let mut gone: Vec<NodeId> = self.nodes[parent].children.remove(name).into_iter().collect();
        while let Some(node) = gone.pop() {
            gone.extend(std::mem::take(&mut self.nodes[node].children).into_values());
            self.release(node);
        }
    }

    /// Frees a node that has no children and is nobody's child any more.
    fn release(&mut self, node: NodeId) {
        self.metadata -= std::mem::take(&mut self.nodes[node].name).len();
        if let Some(inode) = self.nodes[node].inode.take() {
            self.forget(inode);
        }
        self.free.push(node);
    }

    fn hide(&mut self, parent: NodeId, name: &[u8]) {
        let Some(&node) = self.nodes[parent].children.get(name) else { return };
        let is_kept = self.hide_below(node);
        if !is_kept && self.nodes[node].layer < self.layer {
            self.detach(parent, name);
        }
    }

    /// Removes what lies below a directory and comes from lower layers. A directory that this layer
    /// has put something into stays. Tells whether anything is left.
    fn hide_below(&mut self, directory: NodeId) -> bool {
        let is_done = self.upwards(directory).any(|node| self.nodes[node].hidden_by == self.layer);
        if is_done || self.nodes[ROOT].hidden_by == self.layer {
            return !self.nodes[directory].children.is_empty();
        }
        self.hide_all_below(directory)
    }

    fn hide_all_below(&mut self, directory: NodeId) -> bool {
        if self.nodes[directory].hidden_by != self.layer {
            self.nodes[directory].hidden_by = self.layer;
            let mut children = std::mem::take(&mut self.nodes[directory].children);
            children.retain(|_, &mut child| {
                let is_kept = self.hide_all_below(child) || self.nodes[child].layer == self.layer;
                if !is_kept {
                    self.release(child);
                }
                is_kept
            });
            self.nodes[directory].children = children;
        }
        !self.nodes[directory].children.is_empty()
    }

    /// A node and all above it, without the root.
    fn upwards(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(node), |&node| Some(self.nodes[node].parent))
            .take_while(|&node| node != ROOT)
    }

    /// Follows the symbolic links in `parent` inside the tree, as the guest would.
    fn resolve(&mut self, raw: &[u8], parent: &[u8]) -> Result<Place> {
        let look = |node: NodeId, name: &[u8]| {
            let child = *self.nodes[node].children.get(name)?;
            let target = self.nodes[child].inode.map(|inode| &self.inodes.get(inode).kind);
            Some((
                child,
                match target {
                    Some(Kind::Symlink(target)) => Some(&**target),
                    _ => None,
                },
            ))
        };
        let (done, followed) = names::follow(look, raw, parent, self.followed)?;
        let bytes: usize = done.iter().map(|(name, _)| name.len() + 1).sum();
        if done.len() > MOST_DEPTH || bytes > LONGEST_PATH {
            return Err(refused(
                raw,
                &format!("it lies deeper than {MOST_DEPTH} directories or {LONGEST_PATH} bytes"),
            ));
        }
        let node = done.iter().rev().find_map(|(_, node)| *node).unwrap_or(ROOT);
        let missing = done.iter().filter(|(_, node)| node.is_none()).map(|(name, _)| name.to_vec()).collect();
        self.followed = followed;
        Ok(Place { node, missing })
    }
}

#[cfg(test)]
mod tests;
