//! The flags of a new instance, docker's.

use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCompleter;
use hypeman_record::guest::ulimit::Ulimit;

use super::choices::{Accel, Confine, Hypervisor, OnReboot};
use super::health::HealthArguments;
use super::labels::Labels;
use super::log_limits::LogLimitArguments;
use super::network::NetworkArguments;
use crate::{names, size};

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name of the instance [default: random]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) labels: Labels,
    /// Remove the instance when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Use the console as the program's terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set an environment variable; without a value, copy it from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Replace the image's entrypoint
    #[arg(long)]
    pub(crate) entrypoint: Option<String>,
    /// Working directory in the guest
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User in the guest
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Resource limit of the program, as nofile=1024:4096 [default: nofile=1048576]
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = Ulimit::parse)]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Number of vCPUs
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) cpus: u32,
    /// Memory
    #[arg(short, long, default_value = "512m", value_parser = size::parse, value_name = "SIZE")]
    pub(crate) memory: u64,
    /// Action when the guest reboots [default: restart for an image with an init, else stop]
    #[arg(long, value_enum)]
    pub(crate) on_reboot: Option<OnReboot>,
    /// Confinement of the VMM
    #[arg(long, value_enum, default_value_t = Confine::Auto)]
    pub(crate) confine: Confine,
    /// Memory that can be added later (Cloud Hypervisor)
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub(crate) hotplug_size: Option<u64>,
    /// Size of the writable disk, which is sparse
    #[arg(long, default_value = "10g", value_parser = size::parse, value_name = "SIZE")]
    pub(crate) disk_size: u64,
    /// Maximum rate of each disk in bytes a second
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub(crate) disk_bps: Option<u64>,
    /// Maximum rate of each disk in operations a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) disk_iops: Option<u64>,
    /// Hypervisor
    #[arg(long, value_enum, default_value_t = Hypervisor::Qemu, env = "HYPEMAN_HYPERVISOR")]
    pub(crate) hypervisor: Hypervisor,
    #[command(flatten)]
    pub(crate) program: ProgramArgument,
    /// Accelerator; auto uses KVM if it works, else TCG
    #[arg(long, value_enum, default_value_t = Accel::Auto, env = "HYPEMAN_ACCEL")]
    pub(crate) accel: Accel,
    /// Kernel: a file (bzImage or PVH ELF) or a version of `hypeman kernel ls` [default: the
    /// newest]
    #[arg(long, value_name = "FILE|VERSION")]
    pub(crate) kernel: Option<PathBuf>,
    /// Initramfs to use instead of hypeman's
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// Arguments for the kernel's command line
    #[arg(long, default_value = "", hide_default_value = true, value_name = "WORDS")]
    pub(crate) cmdline: String,
    /// Show the messages of the kernel and init too
    #[arg(long)]
    pub(crate) show_boot: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArguments,
    #[command(flatten)]
    pub(crate) health: HealthArguments,
    #[command(flatten)]
    pub(crate) log: LogLimitArguments,
    /// Image, and arguments for its program; no image boots a --kernel file alone
    // One positional for both: from the image on, a word with a dash is the program's.
    #[arg(trailing_var_arg = true, value_names = ["IMAGE", "ARG"], add = ArgValueCompleter::new(names::images))]
    image_and_arguments: Vec<String>,
}

impl CreateArguments {
    /// The image, when one is given.
    pub(crate) fn image(&self) -> Option<&str> {
        self.image_and_arguments.first().map(String::as_str)
    }

    /// The arguments for the image's program.
    pub(crate) fn arguments(&self) -> &[String] {
        self.image_and_arguments.get(1..).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProgramArgument {
    /// Path of Cloud Hypervisor [default: HYPEMAN_CLOUD_HYPERVISOR, else from PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) cloud_hypervisor: Option<PathBuf>,
}
