//! Names as a layer's tar has them, and the way to where they lead.

use super::NodeId;
use crate::error::{Result, content};
use crate::limits::{LONGEST_NAME, LONGEST_PATH, MOST_FOLLOWED, MOST_LINKS};

/// The components of a path, each with its node if it is there.
type Done<'a> = Vec<(&'a [u8], Option<NodeId>)>;

/// Follows the symbolic links in `parent`, as the guest would; `look` tells what is at a name in a
/// directory, and the target if that is a symbolic link. `followed` components of targets were
/// followed before; how many are so now.
pub(super) fn follow<'a>(
    look: impl Fn(NodeId, &[u8]) -> Option<(NodeId, Option<&'a [u8]>)>,
    raw: &[u8],
    parent: &'a [u8],
    mut followed: usize,
) -> Result<(Done<'a>, usize)> {
    let mut todo: Vec<&'a [u8]> = components(parent).rev().collect();
    let mut done: Done<'a> = Vec::new();
    let mut links = 0;
    while let Some(component) = todo.pop() {
        match component {
            b"." => continue,
            b".." => match done.pop() {
                Some(_) => continue,
                None => {
                    return Err(refused(raw, "it lies behind a symbolic link that leads out of the image"));
                }
            },
            _ => {}
        }
        let directory = done.last().map_or(Some(super::ROOT), |(_, node)| *node);
        match directory.and_then(|directory| look(directory, component)) {
            Some((_, Some(target))) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(refused(raw, "it lies behind a loop of symbolic links"));
                }
                if target.starts_with(b"/") {
                    done.clear();
                }
                let before = todo.len();
                todo.extend(components(target).rev());
                followed += todo.len() - before;
                if followed > MOST_FOLLOWED {
                    let reason = format!("its entries lie behind more than {MOST_FOLLOWED} symbolic links");
                    return Err(content("the image", reason));
                }
            }
            Some((node, None)) => done.push((component, Some(node))),
            None => done.push((component, None)),
        }
    }
    Ok((done, followed))
}

/// Names that aufs keeps for itself in a layer (`.wh..wh.plnk`, `.wh..wh.aufs` and all below),
/// which are not the image's. The mark of an opaque directory looks alike.
pub(super) fn is_aufs_own(raw: &[u8]) -> bool {
    components(raw).any(|part| part.starts_with(b".wh..wh.") && part != b".wh..wh..opq")
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

/// Parent and last component of a name in a tar; `None` for the root. Names there are relative to
/// the root, with or without `./` or `/` before them.
pub(super) fn split(raw: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    if raw.len() > LONGEST_PATH || raw.contains(&0) {
        return Err(refused(raw, "its name is longer than a path may be, or holds a NUL"));
    }
    let mut parts: Vec<&[u8]> = components(raw).filter(|component| *component != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(refused(raw, "its name leads out of its directory with `..`"));
    }
    if parts.iter().any(|part| part.len() > LONGEST_NAME) {
        return Err(refused(raw, "a part of its name is longer than 255 bytes"));
    }
    Ok(parts.pop().map(|name| (parts.join(&b'/'), name.to_vec())))
}

pub(super) fn refused(raw: &[u8], reason: &str) -> crate::error::Error {
    content(format!("entry {}", show(raw)), reason)
}

/// Maximum length of a name that is told whole, in bytes.
const SHOWN: usize = 300;

/// A name as an error tells it.
pub(crate) fn show(path: &[u8]) -> String {
    match path.get(..SHOWN) {
        Some(start) if path.len() > SHOWN => format!("{}...", start.escape_ascii()),
        _ => path.escape_ascii().to_string(),
    }
}
