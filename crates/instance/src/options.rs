//! What a user asks for of a new instance, and whether it can be had at all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hypeman_guest::ulimit::Ulimit;
use hypeman_image::Image;
use hypeman_record::record::{KernelUse, Settings};
use hypeman_vmm::spec::{Accelerator, HypervisorKind};

use crate::error::{Error, Result};
use crate::name;

const MIB: u64 = 1024 * 1024;

/// The counterpart of `docker create`'s flags.
#[derive(Debug, Clone)]
pub struct CreateOptions {
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

/// Refuses what no VM could be made of.
pub(crate) fn check(options: &CreateOptions) -> Result<()> {
    let invalid =
        |what, value: String, reason: &str| Err(Error::Invalid { what, value, reason: reason.to_owned() });
    if let Some(name) = &options.name {
        name::check(name)?;
    }
    if options.settings.vcpus == 0 || options.settings.vcpus > 255 {
        return invalid("the number of vCPUs", options.settings.vcpus.to_string(), "give --cpus 1 to 255");
    }
    if options.settings.memory < 16 * MIB || !options.settings.memory.is_multiple_of(MIB) {
        let reason = "give --memory as whole MiB, at least 16m (Linux guests need some 128m)";
        return invalid("the memory size", options.settings.memory.to_string(), reason);
    }
    if let Some(size) = options.settings.hotplug_memory {
        // The size of the blocks that virtio-mem plugs is 128 MiB for Linux (Documentation/admin-guide/mm/memory-hotplug).
        if size == 0 || !size.is_multiple_of(128 * MIB) {
            return invalid(
                "the hotplug size",
                size.to_string(),
                "give --hotplug-size as a multiple of 128m",
            );
        }
        if options.settings.hypervisor != HypervisorKind::CloudHypervisor {
            let reason = "only Cloud Hypervisor can add memory; leave --hotplug-size out";
            return invalid("the hotplug size", size.to_string(), reason);
        }
    }
    if let Some(limit) = options.settings.disk_rate_limit
        && (limit.bytes_per_second == Some(0) || limit.operations_per_second == Some(0))
    {
        let reason = "a disk that may move nothing can start nothing; leave --disk-bps and --disk-iops out for no limit";
        return invalid("the disk limit", "0".to_owned(), reason);
    }
    if options.settings.log.max_size < 4096 {
        return invalid(
            "the log size",
            options.settings.log.max_size.to_string(),
            "give --log-max-size 4k or more",
        );
    }
    if options.settings.log.max_files > 1000 {
        return invalid(
            "the number of log files",
            options.settings.log.max_files.to_string(),
            "give --log-max-files 0 to 1000",
        );
    }
    // Linux cuts the command line at COMMAND_LINE_SIZE, 2048 on x86 (arch/x86/include/asm/setup.h).
    if options.settings.cmdline.len() > 1500 || options.settings.cmdline.contains(|c: char| c.is_control()) {
        let reason = "it is longer than 1500 bytes or has control characters";
        return invalid("the kernel command line", options.settings.cmdline.clone(), reason);
    }
    if options.image.is_none() && !matches!(options.kernel, Some(KernelUse::Own { .. })) {
        return invalid(
            "the image",
            String::new(),
            "give an image, or a kernel to boot alone: --kernel FILE",
        );
    }
    if options.settings.hypervisor == HypervisorKind::CloudHypervisor
        && options.settings.accelerator == Some(Accelerator::Tcg)
    {
        return invalid("the accelerator", "tcg".to_owned(), "Cloud Hypervisor has only kvm; TCG is QEMU's");
    }
    Ok(())
}
