//! The documents of an image that say what it is made of.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::platform;

/// An index or a manifest (<https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>).
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    /// In an index.
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    /// In a manifest.
    pub(crate) config: Option<Descriptor>,
    /// In a manifest.
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Manifest {
    /// The manifest for our platform, or the only one.
    pub(crate) fn choose(&self) -> Option<&Descriptor> {
        let rank = |d: &Descriptor| {
            let platform = d.platform.as_ref()?;
            platform::rank(&platform.os, &platform.architecture, platform.variant.as_deref())
        };
        let ranked = self.manifests.iter().filter_map(|d| Some((rank(d)?, d)));
        let ours = ranked.min_by_key(|(rank, _)| *rank).map(|(_, d)| d);
        ours.or_else(|| self.manifests.iter().find(|d| d.platform.is_none()))
    }
}
