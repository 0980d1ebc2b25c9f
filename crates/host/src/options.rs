//! Resolves a user's request for a new instance, or refuses it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hypeman_image::Image;
use hypeman_record::guest::config::Stdio;
use hypeman_record::guest::ulimit::Ulimit;
use hypeman_record::record::{KernelUse, LogLimits, LogMode, Settings};
use hypeman_vmm::Unsupported;

use crate::error::{Field, Result, invalid};
use crate::health::HealthOptions;
use crate::{name, network};

const MIB: u64 = 1024 * 1024;

/// Minimum memory of a VM of an image, in bytes.
const LEAST_MEMORY: u64 = 128 * MIB;

/// Maximum memory in bytes: what x86-64 hosts have at most today.
const MOST_MEMORY: u64 = 4 << 40;

/// Maximum size of a writable disk in bytes: a file of ext4 has at most 16 TiB, less its last
/// block.
const MOST_DISK: u64 = 15 << 40;

/// A request for a new instance: the counterpart of `docker create`'s flags, with docker's
/// defaults.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Name; made up when absent.
    pub name: Option<String>,
    /// Tags (docker's labels), by key.
    pub tags: BTreeMap<String, String>,
    /// Reference of the image, which is pulled when it is not here. Without one a kernel boots
    /// alone.
    pub image: Option<String>,
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
    /// Input and output of the program.
    pub stdio: Stdio,
    /// Replacement of the image's health check.
    pub health: HealthOptions,
    /// Version of a kernel that is here, or file of one of the user's own; the newest when absent.
    pub kernel: Option<PathBuf>,
    /// File of an initramfs of the user's own.
    pub initrd: Option<PathBuf>,
    /// Name of a network, or `user` or `none`; the best that this host can give when absent.
    pub network: Option<String>,
    /// Ports to be published, as docker writes them: `8080:80/tcp`.
    pub publish: Vec<String>,
    /// Whether all ports are published that the image exposes.
    pub publish_all: bool,
    /// The VM, and how to treat it. The connection and the published ports of its network come from
    /// the fields above.
    pub settings: Settings,
}

/// A request with what it names on this host.
#[derive(Debug, Clone)]
pub(crate) struct CreateOptions {
    /// The request, with its settings complete.
    pub(crate) request: CreateRequest,
    /// The image and what the user called it.
    pub(crate) image: Option<(String, Image)>,
    /// A kernel of the user's own, or a version of `hypeman kernel ls`.
    pub(crate) kernel: Option<KernelUse>,
}

/// Formats a size as users type it: `64m`.
fn size(bytes: u64) -> String {
    let units = [(1 << 40, "t"), (1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")];
    let whole = units.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// Refuses what no VM could be made of.
pub(crate) fn check(options: &CreateOptions) -> Result<()> {
    let settings = &options.request.settings;
    if let Some(name) = &options.request.name {
        name::check(name)?;
    }
    if !(1..=255).contains(&settings.vcpus) {
        return invalid(Field::Vcpus, settings.vcpus, "must be 1 to 255");
    }
    if settings.memory < 16 * MIB || !settings.memory.is_multiple_of(MIB) {
        return invalid(Field::Memory, size(settings.memory), "must be whole MiB, 16m or more");
    }
    // With less, the kernels of `hypeman kernel ls` find no room for the initramfs, panic, and
    // reboot.
    let is_own = matches!(options.kernel, Some(KernelUse::Own { .. }));
    if options.image.is_some() && !is_own && settings.memory < LEAST_MEMORY {
        let reason = "must be 128m or more for an image, unless you give a --kernel FILE";
        return invalid(Field::Memory, size(settings.memory), reason);
    }
    if settings.memory > MOST_MEMORY {
        return invalid(Field::Memory, size(settings.memory), "must be 4t or less");
    }
    if options.image.is_some() && !(MIB..=MOST_DISK).contains(&settings.disk_size) {
        return invalid(Field::DiskSize, size(settings.disk_size), "must be 1m to 15t");
    }
    check_hypervisor(settings)?;
    if let Some(limit) = settings.disk_rate_limit {
        // A guest that boots reads some tens of megabytes in thousands of pieces.
        if let Some(bytes) = limit.bytes_per_second.filter(|bytes| *bytes < MIB) {
            return invalid(
                Field::DiskLimit,
                size(bytes),
                "must be 1m a second or more, or the guest does not boot",
            );
        }
        if let Some(count) = limit.operations_per_second.filter(|count| *count < 10) {
            return invalid(
                Field::DiskLimit,
                count,
                "must be 10 a second or more, or the guest does not boot",
            );
        }
    }
    if settings.log.max_size < 4096 {
        return invalid(Field::LogSize, size(settings.log.max_size), "must be 4 KiB or more");
    }
    check_log_buffer(&settings.log)?;
    if settings.log.max_files > 1000 {
        return invalid(Field::LogFiles, settings.log.max_files, "must be 0 to 1000");
    }
    // Linux cuts the command line at COMMAND_LINE_SIZE, 2048 on x86 (arch/x86/include/asm/setup.h).
    if settings.cmdline.len() > 1500 || settings.cmdline.contains(|c: char| c.is_control()) {
        let reason = "must be 1500 bytes or less, without control characters";
        return invalid(Field::KernelCommandLine, &settings.cmdline, reason);
    }
    if options.image.is_none() && !matches!(options.kernel, Some(KernelUse::Own { .. })) {
        return invalid(Field::Image, "", "missing, and no --kernel file to boot alone");
    }
    network::check(&settings.network)
}

/// Refuses settings that the hypervisor cannot have.
fn check_hypervisor(settings: &Settings) -> Result<()> {
    let abilities = hypeman_vmm::hypervisor(settings.hypervisor).abilities();
    if let Some(memory) = settings.hotplug_memory {
        let refuse = |why: Unsupported| invalid(Field::HotplugMemory, size(memory), &why.to_string());
        abilities.check_hotplug(memory).or_else(refuse)?;
    }
    if let Some(accelerator) = settings.accelerator {
        let refuse = |why: Unsupported| invalid(Field::Accelerator, "tcg", &why.to_string());
        abilities.check_accelerator(accelerator).or_else(refuse)?;
    }
    Ok(())
}

fn check_log_buffer(log: &LogLimits) -> Result<()> {
    let Some(size) = log.max_buffer_size else { return Ok(()) };
    if log.mode == LogMode::Blocking {
        return invalid(Field::LogBuffer, size, "only --log-opt mode=non-blocking has a buffer");
    }
    // The ring of `hypeman_console::buffer`.
    if !(4096..=4 * MIB).contains(&size) {
        return invalid(Field::LogBuffer, size, "must be 4 KiB to 4 MiB");
    }
    Ok(())
}
