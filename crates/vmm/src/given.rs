//! The files that a VMM gets as descriptors: its kernel, its initramfs and its disks. It finds them
//! below /proc/self/fd, whatever it may and may not reach by their names.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hypeman_confine::Given;
use hypeman_files::AtPath;
use hypeman_record::descriptors;
use hypeman_record::spec::VmSpec;
use rustix::fs::OFlags;

use crate::error::Result;

/// Where the VMM finds a disk.
#[must_use]
pub fn disk(index: usize) -> PathBuf {
    (descriptors::FIRST_DISK..).nth(index).map_or_else(PathBuf::new, named_by)
}

fn named_by(number: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{number}"))
}

/// The specification as the VMM is told it.
pub(crate) fn named(spec: &VmSpec) -> VmSpec {
    let mut named = spec.clone();
    if spec.by_descriptor {
        named.kernel = named_by(descriptors::KERNEL);
        named.initramfs = spec.initramfs.as_ref().map(|_| named_by(descriptors::INITRAMFS));
        named.disks.iter_mut().enumerate().for_each(|(index, found)| found.path = disk(index));
    }
    named
}

/// Opens the files of a VM in `directory`; its kernel only for a VMM that reads it. An initramfs
/// Cloud Hypervisor opens for a restore too (`Vm::new`, `vmm/src/vm.rs`).
pub(crate) fn open(spec: &VmSpec, directory: &Path, reads_kernel: bool) -> Result<Vec<Given>> {
    if !spec.by_descriptor {
        return Ok(Vec::new());
    }
    let mut files: Vec<(i32, &Path, bool)> = Vec::new();
    if reads_kernel {
        files.push((descriptors::KERNEL, &spec.kernel, false));
    }
    files.extend(spec.initramfs.as_deref().map(|path| (descriptors::INITRAMFS, path, false)));
    files.extend(
        (descriptors::FIRST_DISK..)
            .zip(&spec.disks)
            .map(|(number, disk)| (number, &*disk.path, !disk.read_only)),
    );
    let open = |(number, path, writable): (i32, &Path, bool)| {
        let path = directory.join(path);
        let mut options = OpenOptions::new();
        // Not by a link: we make none there.
        let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = options.read(true).write(writable).custom_flags(no_link).open(&path).at(&path)?;
        Ok(Given { file: file.into(), number, writable })
    };
    files.into_iter().map(open).collect()
}
