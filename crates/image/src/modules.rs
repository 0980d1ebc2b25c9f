//! Which modules a VM needs, in the order in which they have to be loaded.

use std::collections::BTreeMap;
use std::path::Path;

use hypeman_files::AtPath;

use crate::error::{Result, content};

/// Modules without which no image can be run, unless they are built into the kernel.
const NEEDED: [&str; 4] = ["virtio_blk", "squashfs", "overlay", "ext4"];

/// Modules that are taken when they are there: either bus of virtio, what the control port and the
/// power button need, a word to the host when the kernel panics, randomness, network, sockets to
/// the host, and the other file system that an image may have.
const WELCOME: [&str; 12] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_console",
    "button",
    "evdev",
    "pvpanic_pci",
    "pvpanic_mmio",
    "virtio_rng",
    "virtio_net",
    "vmw_vsock_virtio_transport",
    "erofs",
    "af_packet",
];

/// A kernel's modules, from `modules.dep` and `modules.builtin` (kmod's modules.dep(5)).
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// By name: the file and the names of those it needs.
    loadable: BTreeMap<String, (String, Vec<String>)>,
    built_in: Vec<String>,
}

impl Modules {
    /// Reads the indexes in a modules directory.
    pub(crate) fn read(directory: &Path) -> Result<Modules> {
        let path = directory.join("modules.dep");
        let dependencies = std::fs::read_to_string(&path).at(&path)?;
        // Kernels without anything built in have no such file.
        let built_in = std::fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        Ok(Modules::parse(&dependencies, &built_in))
    }

    fn parse(dependencies: &str, built_in: &str) -> Modules {
        let line = |line: &str| {
            let (file, needs) = line.split_once(':')?;
            Some((name(file), (file.to_owned(), needs.split_whitespace().map(name).collect())))
        };
        Modules {
            loadable: dependencies.lines().filter_map(line).collect(),
            built_in: built_in.lines().map(name).collect(),
        }
    }

    /// The files of all modules that a VM needs, each after those it needs itself.
    pub(crate) fn resolve(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for name in NEEDED {
            if !self.loadable.contains_key(name) && !self.built_in.iter().any(|built_in| built_in == name) {
                let reason =
                    format!("{name} is neither a module nor built in, and no image can be run without it");
                return Err(content("the kernel's modules", reason));
            }
        }
        for name in NEEDED.iter().chain(&WELCOME) {
            self.collect(name, &mut files, 0);
        }
        Ok(files)
    }

    fn collect(&self, name: &str, files: &mut Vec<String>, depth: usize) {
        let Some((file, needs)) = self.loadable.get(name) else {
            return;
        };
        // modules.dep has no circles; one that was made by hand shall not hang us.
        if files.contains(file) || depth > 50 {
            return;
        }
        for needed in needs {
            self.collect(needed, files, depth + 1);
        }
        files.push(file.clone());
    }
}

/// `kernel/drivers/block/virtio-blk.ko.xz` is the module `virtio_blk`.
fn name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/overlayfs/overlay.ko:
kernel/fs/squashfs/squashfs.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/char/virtio-console.ko.xz: kernel/drivers/virtio/virtio.ko
";

    #[test]
    fn a_module_comes_after_those_it_needs() {
        let files = Modules::parse(DEPENDENCIES, "kernel/fs/ext4/ext4.ko\n").resolve().unwrap();
        let place = |end: &str| files.iter().position(|file| file.ends_with(end)).unwrap();
        assert!(
            place("virtio.ko") < place("virtio_ring.ko") && place("virtio_ring.ko") < place("virtio_blk.ko")
        );
        assert!(place("virtio.ko") < place("virtio-console.ko.xz"));
        assert_eq!(files.len(), 6, "each once");
    }

    #[test]
    fn a_kernel_without_what_an_image_needs_is_refused() {
        let error = Modules::parse(DEPENDENCIES, "").resolve().unwrap_err();
        assert!(error.to_string().contains("ext4"), "{error}");
    }
}
