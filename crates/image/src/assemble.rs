//! From layers to an image.

use std::path::Path;

use hypeman_files::AtPath;

use crate::config::{Config, Document};
use crate::entry::read_layer;
use crate::error::{Result, content};
use crate::progress::Progress;
use crate::spool::{Blob, spool};
use crate::store::{Image, ROOTFS};
use crate::tree::Tree;
use crate::{digest, disk};

/// Where an image comes from, as the ways to get one leave it.
#[derive(Debug)]
pub(crate) struct Source {
    /// Digest of the image.
    pub(crate) digest: String,
    /// The full names that it has of its own.
    pub(crate) names: Vec<String>,
    /// How to run it.
    pub(crate) config: Config,
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<Blob>,
}

/// The source that a configuration document and its layers are; `digest` is the manifest's.
pub(crate) fn source(
    digest: Option<String>,
    names: Vec<String>,
    config: &[u8],
    mut layers: Vec<Blob>,
) -> Result<Source> {
    let document = Document::parse(config)?;
    document.check_platform()?;
    if document.rootfs.diff_ids.len() != layers.len() {
        let counts =
            format!("it names {} layers, its manifest {}", document.rootfs.diff_ids.len(), layers.len());
        return Err(content("the image's configuration", counts));
    }
    for (layer, diff_id) in layers.iter_mut().zip(&document.rootfs.diff_ids) {
        layer.diff_id = Some(diff_id.clone());
    }
    let digest = digest.unwrap_or_else(|| digest::of(config));
    Ok(Source { digest, names, config: document.run_config(), layers })
}

/// Makes the disk in `directory`; large files on the way go to `scratch`.
pub(crate) fn assemble(
    source: &Source,
    directory: &Path,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Image> {
    let mut tree = Tree::default();
    let mut layers = Vec::new();
    for (number, blob) in source.layers.iter().enumerate() {
        let spooled = spool(blob, scratch, progress)?;
        read_layer(&mut tree, number, blob, &spooled.file, progress)?;
        layers.push(spooled);
    }
    let path = directory.join(ROOTFS);
    disk::write(&tree, &layers, &path, progress)?;
    let size = path.metadata().at(&path)?.len();
    Ok(Image::new(source.digest.clone(), size, source.config.clone()))
}
