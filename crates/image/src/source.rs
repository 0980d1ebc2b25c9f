//! Where an image comes from, as each of the ways to get one leaves it.

use crate::config::{Config, Document};
use crate::digest;
use crate::error::{Result, content};
use crate::spool::Blob;

/// Source of an image.
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
pub(crate) fn describe(
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
