//! Creation: everything is made in a hidden directory, which gets its name when it is whole.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Lock, sync_directory, write_disk, write_json};
use hypeman_guest::status;
use hypeman_guest::ulimit::Ulimit;
use hypeman_image::Image;
use hypeman_vmm::spec::{Accelerator, HypervisorKind};
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::layout::{self, names};
use crate::name;
use crate::record::{ImageUse, KernelUse, Record, Settings};
use crate::store::{Instance, Store};
use crate::{command, delete, start};

const MIB: u64 = 1024 * 1024;

/// What the user wants; the counterpart of `docker create`'s flags.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Name; made up when absent.
    pub name: Option<String>,
    /// The image and what the user called it.
    pub image: Option<(String, Image)>,
    /// Replaces the image's entrypoint and command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub arguments: Vec<String>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, String>,
    /// Replaces the image's working directory.
    pub workdir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Resource limits of the program.
    pub ulimits: Vec<Ulimit>,
    /// A kernel of the user's own, or a version of `hypeman kernel ls`.
    pub kernel: Option<KernelUse>,
    /// An initramfs of the user's own.
    pub initrd: Option<PathBuf>,
    /// The VM, and how to treat it.
    pub settings: Settings,
}

/// Makes an instance.
///
/// # Errors
/// When a wish cannot be granted or the disk is full; nothing is left behind then.
pub fn create(store: &Store, wish: &Wish) -> Result<Instance> {
    check(wish)?;
    let record = record(store, wish)?;
    start::check_config(&record)?;
    let (hidden, _lock) = begin(store, &record.id)?;
    let made = furnish(&hidden, wish, &record).and_then(|()| publish(store, &hidden, record, wish));
    if made.is_err() {
        let _ = std::fs::remove_dir_all(&hidden); // else the next creator sweeps it away
    }
    made
}

fn check(wish: &Wish) -> Result<()> {
    let invalid =
        |what, value: String, reason: &str| Err(Error::Invalid { what, value, reason: reason.to_owned() });
    if let Some(name) = &wish.name {
        name::check(name)?;
    }
    if wish.settings.vcpus == 0 || wish.settings.vcpus > 255 {
        return invalid("the number of vCPUs", wish.settings.vcpus.to_string(), "give --cpus 1 to 255");
    }
    if wish.settings.memory < 16 * MIB || !wish.settings.memory.is_multiple_of(MIB) {
        let reason = "give --memory as whole MiB, at least 16m (Linux guests need some 128m)";
        return invalid("the memory size", wish.settings.memory.to_string(), reason);
    }
    if let Some(size) = wish.settings.hotplug_memory {
        // The size of the blocks that virtio-mem plugs is 128 MiB for Linux (Documentation/admin-guide/mm/memory-hotplug).
        if size == 0 || !size.is_multiple_of(128 * MIB) {
            return invalid(
                "the hotplug size",
                size.to_string(),
                "give --hotplug-size as a multiple of 128m",
            );
        }
        if wish.settings.hypervisor != HypervisorKind::CloudHypervisor {
            let reason = "only Cloud Hypervisor can add memory; leave --hotplug-size out";
            return invalid("the hotplug size", size.to_string(), reason);
        }
    }
    if let Some(limit) = wish.settings.disk_rate_limit
        && (limit.bytes_per_second == Some(0) || limit.operations_per_second == Some(0))
    {
        let reason = "a disk that may move nothing can start nothing; leave --disk-bps and --disk-iops out for no limit";
        return invalid("the disk limit", "0".to_owned(), reason);
    }
    if wish.settings.log.max_size < 4096 {
        return invalid(
            "the log size",
            wish.settings.log.max_size.to_string(),
            "give --log-max-size 4k or more",
        );
    }
    if wish.settings.log.max_files > 1000 {
        return invalid(
            "the number of log files",
            wish.settings.log.max_files.to_string(),
            "give --log-max-files 0 to 1000",
        );
    }
    // Linux cuts the command line at COMMAND_LINE_SIZE, 2048 on x86 (arch/x86/include/asm/setup.h).
    if wish.settings.cmdline.len() > 1500 || wish.settings.cmdline.contains(|c: char| c.is_control()) {
        let reason = "it is longer than 1500 bytes or has control characters";
        return invalid("the kernel command line", wish.settings.cmdline.clone(), reason);
    }
    if wish.image.is_none() && !matches!(wish.kernel, Some(KernelUse::Own { .. })) {
        return invalid(
            "the image",
            String::new(),
            "give an image, or a kernel to boot alone: --kernel FILE",
        );
    }
    if wish.settings.hypervisor == HypervisorKind::CloudHypervisor
        && wish.settings.accelerator == Some(Accelerator::Tcg)
    {
        return invalid("the accelerator", "tcg".to_owned(), "Cloud Hypervisor has only kvm; TCG is QEMU's");
    }
    Ok(())
}

fn record(store: &Store, wish: &Wish) -> Result<Record> {
    let kernels = hypeman_image::kernel::Kernels::new(store.data_dir());
    let kernel = match &wish.kernel {
        None => KernelUse::Version(kernels.get(None)?.version),
        Some(KernelUse::Version(version)) => KernelUse::Version(kernels.get(Some(version))?.version),
        Some(KernelUse::Own { source }) => {
            hypeman_image::kernel::kernel_kind(source)?;
            KernelUse::Own { source: std::path::absolute(source).at(source)? }
        }
    };
    Ok(Record {
        id: name::new_id()?,
        name: wish.name.clone().map_or_else(name::random_name, Ok)?,
        created: Timestamp::now(),
        image: wish.image.as_ref().map(|(reference, image)| ImageUse {
            reference: reference.clone(),
            digest: image.digest.clone(),
        }),
        command: wish.image.as_ref().map(|(_, image)| command::resolve(wish, &image.config)).transpose()?,
        kernel,
        own_initrd: wish.initrd.is_some(),
        settings: wish.settings.clone(),
    })
}

/// Makes the hidden directory, held by its lock from its first moment that anyone else can see it.
fn begin(store: &Store, id: &str) -> Result<(PathBuf, Lock)> {
    let held = store.lock()?;
    delete::sweep(store, &held)?;
    let hidden = layout::instances(store.data_dir()).join(format!(".new-{id}"));
    std::fs::DirBuilder::new().mode(0o700).create(&hidden).at(&hidden)?;
    let lock = Lock::acquire(&hidden.join(names::LOCK))?;
    Ok((hidden, lock))
}

fn furnish(directory: &Path, wish: &Wish, record: &Record) -> Result<()> {
    for name in ["disks", "logs"] {
        let path = directory.join(name);
        std::fs::create_dir(&path).at(&path)?;
    }
    if let KernelUse::Own { source } = &record.kernel {
        std::fs::copy(source, directory.join(names::KERNEL)).at(source)?;
    }
    if let Some(initrd) = &wish.initrd {
        std::fs::copy(initrd, directory.join(names::INITRD)).at(initrd)?;
    }
    if record.image.is_some() {
        hypeman_image::create_overlay(&directory.join(names::OVERLAY), record.settings.disk_size)?;
        write_disk(&directory.join(names::STATUS), &[], status::DISK_SIZE)?;
    }
    Ok(write_json(&directory.join(names::RECORD), record)?)
}

/// Gives the directory its name, when the instance's name is free and its image still there.
fn publish(store: &Store, hidden: &Path, mut record: Record, wish: &Wish) -> Result<Instance> {
    let _held = store.lock()?;
    let (others, _) = store.list()?;
    let holder = |name: &str| others.iter().find(|other| other.record.name == name);
    while let Some(other) = holder(&record.name) {
        if wish.name.is_some() {
            return Err(Error::NameTaken { name: record.name, id: other.record.id.clone() });
        }
        record.name = name::random_name()?;
        write_json(&hidden.join(names::RECORD), &record)?;
    }
    if let Some((reference, image)) = &wish.image
        && !image.rootfs().exists()
    {
        return Err(Error::Invalid {
            what: "the image",
            value: reference.clone(),
            reason: "it was removed meanwhile; pull or import it again".to_owned(),
        });
    }
    let directory = layout::instances(store.data_dir()).join(&record.id);
    std::fs::rename(hidden, &directory).at(hidden)?;
    sync_directory(&layout::instances(store.data_dir()))?;
    Ok(Instance { record, directory })
}
