//! A way in for the fuzzer, to what reads strangers' archives.

use std::fs::File;
use std::path::Path;
use std::rc::Rc;

use crate::layer::read_layer;
use crate::progress::Quiet;
use crate::spool::{Blob, Span};
use crate::tree::Tree;
use crate::{disk, import};

/// Reads `tar` as an archive with images in it, and as two layers, one over the other. Tells how
/// many names there are then.
///
/// # Errors
/// The fault of the archive.
pub fn read(tar: &File) -> crate::Result<usize> {
    let copy = || tar.try_clone().map_err(|error| crate::error::content("the input", error));
    let _ = import::members("the input", Path::new("input"), Rc::new(copy()?));
    let at = Span { path: "input".into(), file: None, part: None };
    let mut tree = Tree::default();
    for whole in [None, Some(String::new())] {
        let blob = Blob { what: "the input".to_owned(), at: at.clone(), digest: whole, diff_id: None };
        read_layer(&mut tree, 0, &blob, tar, &Quiet)?;
    }
    tree.check_crowds()?;
    let mut names = 0;
    let Ok(()) = tree.visit(&mut |node, path, _, _| {
        assert_eq!(tree.path(node), path);
        assert!(path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"." | b"..")), "{path:?}");
        names += 1;
        Ok::<_, std::convert::Infallible>(())
    });
    let _ = disk::total(&tree);
    Ok(names)
}
