//! From layers to an image.

use std::path::Path;

use hypeman_files::AtPath;

use crate::disk;
use crate::error::Result;
use crate::image::{Image, ROOTFS};
use crate::layer::read_layer;
use crate::limits::Room;
use crate::progress::Progress;
use crate::source::Source;
use crate::spool::spool;
use crate::tree::Tree;

/// Makes the disk in `directory`; large files on the way go to `scratch`, and may take `most`
/// bytes.
pub(crate) fn assemble(
    source: &Source,
    directory: &Path,
    scratch: &Path,
    most: u64,
    progress: &dyn Progress,
) -> Result<Image> {
    let mut room = Room::on(scratch, most)?;
    let mut tree = Tree::default();
    let mut layers = Vec::new();
    for (number, blob) in (0..).zip(&source.layers) {
        let spooled = spool(blob, scratch, &mut room, progress)?;
        read_layer(&mut tree, number, blob, &spooled.file, progress)?;
        layers.push(spooled);
    }
    let path = directory.join(ROOTFS);
    disk::write(&tree, &layers, &path, progress)?;
    let size = path.metadata().at(&path)?.len();
    Ok(Image::new(source.digest.clone(), size, source.config.clone()))
}
