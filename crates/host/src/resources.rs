//! The resources of this host, and which instances have them.

use std::os::unix::fs::MetadataExt;

use hypeman_files::AtPath;
use hypeman_record::names;

use crate::error::Result;
use crate::host::Host;
use crate::instance::Instance;
use crate::observe::Observation;
use crate::parallel::processors;

/// Resources of this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// Number of processors.
    pub processors: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Size of the data directory's file system in bytes.
    pub disk: u64,
    /// Size of all images in bytes.
    pub images: u64,
    /// Size of the disks of all instances in bytes, without holes.
    pub overlays: u64,
    /// The instances, and whether each has a VMM.
    pub instances: Vec<(Instance, bool)>,
}

impl Host {
    /// Looks at the resources of this host.
    ///
    /// # Errors
    /// When the data directory cannot be read.
    pub fn resources(&self) -> Result<Resources> {
        let data_dir = self.data_dir().path();
        let system = rustix::system::sysinfo();
        let file_system = rustix::fs::statvfs(data_dir).map_err(std::io::Error::from).at(data_dir)?;
        let (instances, _) = self.list()?;
        let is_active = |seen: Result<Observation>| seen.is_ok_and(|seen| seen.state.is_active());
        let active: Vec<bool> = self.observe_all(&instances).into_iter().map(is_active).collect();
        Ok(Resources {
            processors: processors() as u64,
            memory: system.totalram.saturating_mul(u64::from(system.mem_unit)),
            disk: file_system.f_blocks.saturating_mul(file_system.f_frsize),
            images: self.list_images()?.iter().map(|image| image.size).sum(),
            overlays: instances.iter().map(disks).sum(),
            instances: instances.into_iter().zip(active).collect(),
        })
    }
}

/// Returns the size of an instance's own disks in bytes, without holes.
pub(crate) fn disks(instance: &Instance) -> u64 {
    const BLOCK: u64 = 512; // of st_blocks (stat(3type))
    let files = std::fs::read_dir(instance.directory.join(names::DISKS)).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * BLOCK).sum()
}
