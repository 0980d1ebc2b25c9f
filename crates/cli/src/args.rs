//! The command line.

mod choices;
mod guest;
mod health;
mod image;
mod log_limits;
mod logs;
mod network;
mod snapshot;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCompleter;
use hypeman_record::guest::ulimit::Ulimit;

pub(crate) use choices::WaitFor;
use choices::{Accel, Confine, Hypervisor, OnReboot};
pub(crate) use guest::{CopyArguments, ExecArguments, ExportArguments};
use health::HealthArguments;
pub(crate) use image::{ImageCommand, ImageLimit, KernelCommand};
use log_limits::LogLimitArguments;
pub(crate) use logs::{LogFormat, LogsArguments, Source, Tail};
pub(crate) use network::{NetworkArguments, NetworkCommand};
pub(crate) use snapshot::{BecomeArguments, CompressionArgument, SnapshotCommand, SnapshotKind, TargetState};

use crate::detach_keys::DetachKeys;
use crate::filter::Filter;
use crate::{names, size};

/// OCI images as microVMs, whose console logs are whole.
#[derive(Debug, Parser)]
#[command(name = "hypeman", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Where images, kernels and instances are kept [default: HYPEMAN_DATA_DIR, else /var/lib/hypeman as root and
    /// ~/.local/share/hypeman for others]
    // Without clap's `env`, to which an empty variable is a wrong value.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell what this machine has, lacks, and how to mend it
    Doctor {
        #[command(flatten)]
        program: ProgramArgument,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Kernels for the VMs
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Fetch an image from a registry
    Pull {
        #[command(flatten)]
        limit: ImageLimit,
        /// Image, as in `debian:12` or `127.0.0.1:5000/app@sha256:...`
        reference: String,
    },
    /// Images
    #[command(subcommand)]
    Image(ImageCommand),
    /// List images, as `image ls` does
    Images {
        /// Only the digests
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print the version
    Version {
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Create an instance, start it, and show what it prints
    Run(RunArguments),
    /// Create an instance without starting it
    Create(CreateArguments),
    /// Start instances
    Start(Names),
    /// Stop instances: power button, then by force
    Stop(StopArguments),
    /// End instances at once, or send their program a signal
    Kill {
        /// Signal for the program; without it the VM is ended
        #[arg(short, long)]
        signal: Option<String>,
        #[command(flatten)]
        names: Names,
    },
    /// Stop and start instances
    Restart(StopArguments),
    /// Stop the vCPUs of instances; their memory stays where it is
    Pause(Names),
    /// Let paused instances go on
    #[command(alias = "unpause")]
    Resume(Names),
    /// Write the memory of instances to disk, and end their VMMs
    Standby(StandbyArguments),
    /// Let instances go on from standby
    Restore(Names),
    /// Make another instance of one, with its disks, and its memory if it has some
    Fork {
        /// What becomes of it [default: the state of its source]
        #[arg(long, value_enum)]
        state: Option<TargetState>,
        /// Name, or the beginning of an id
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
        source: String,
        /// Name for the new instance
        #[arg(value_name = "NEW")]
        name: String,
    },
    /// Wait until instances have ended, and print their exit codes
    Wait {
        /// Wait until they run, or until their health checks say that they are healthy, and print
        /// nothing
        #[arg(long = "for", value_enum, value_name = "STATE")]
        until: Option<WaitFor>,
        /// Longest time to wait (seconds, or 1m30s)
        #[arg(long, value_name = "TIME", value_parser = crate::time::duration)]
        timeout: Option<Duration>,
        #[command(flatten)]
        names: Names,
    },
    /// Copies of instances that are kept
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Give running VMs whose shim was killed another, which goes on with their consoles
    Adopt(AdoptArguments),
    /// Give running VMs a shim of this program, without their noticing: those named, or all that have another program's
    UpgradeShims {
        /// Names, or beginnings of ids
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
        names: Vec<String>,
    },
    /// List instances
    Ps {
        /// Also those that do not run
        #[arg(short, long)]
        all: bool,
        /// Only the ids
        #[arg(short, long)]
        quiet: bool,
        /// Only those of which this holds: name=, id=, status=, ancestor=, network=, health=,
        /// exited=
        #[arg(short, long, value_name = "KEY=VALUE")]
        filter: Vec<Filter>,
        /// Cut nothing to fit the terminal
        #[arg(long)]
        no_trunc: bool,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print all that is known of instances, as JSON
    Inspect {
        /// Print what a Go template makes of each, as docker has them
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        #[command(flatten)]
        names: Names,
    },
    /// Give an instance another name
    Rename {
        /// Name, or the beginning of an id
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
        /// The new name
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Be the console and keyboard of an instance that runs
    Attach(AttachArguments),
    /// Run a command in an instance that runs
    Exec(ExecArguments),
    /// Copy files between an instance and here
    Cp(CopyArguments),
    /// Write all files of an instance that runs as a tar stream
    Export(ExportArguments),
    /// Tell what is at a path in an instance that runs
    Stat {
        /// Tell of what a link leads to, and not of the link
        #[arg(short = 'L', long)]
        follow: bool,
        #[command(flatten)]
        format: FormatArgument,
        /// Name, or the beginning of an id
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
        /// Path in the guest
        path: OsString,
    },
    /// List the processes of an instance that runs
    Top {
        #[command(flatten)]
        format: FormatArgument,
        /// Name, or the beginning of an id
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
    },
    /// Show what instances use of the host: CPU, memory, disks, network; those named, or all that run
    Stats {
        /// Once, also to a terminal
        #[arg(long)]
        no_stream: bool,
        #[command(flatten)]
        format: FormatArgument,
        /// Names, or beginnings of ids
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
        names: Vec<String>,
    },
    /// Tell at which ports of the host those of an instance can be reached
    Port {
        #[command(flatten)]
        format: FormatArgument,
        /// Name, or the beginning of an id
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
        /// Only of this port of the guest's, as `80` or `53/udp`
        port: Option<String>,
    },
    /// Networks for instances
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Show what instances printed
    Logs(LogsArguments),
    /// Remove instances with their disks and logs
    Rm {
        /// Also those that run
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        names: Names,
    },
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
}

impl Command {
    /// Whether its answer is JSON; then its errors are too.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Command::Doctor { format, .. }
            | Command::Images { format, .. }
            | Command::Version { format }
            | Command::Stat { format, .. }
            | Command::Top { format, .. }
            | Command::Stats { format, .. }
            | Command::Port { format, .. }
            | Command::Ps { format, .. }
            | Command::Image(ImageCommand::Ls { format, .. })
            | Command::Kernel(KernelCommand::Ls { format })
            | Command::Network(NetworkCommand::Ls { format })
            | Command::Snapshot(SnapshotCommand::Ls { format, .. }) => format.format == Format::Json,
            Command::Inspect { format, .. } => format.as_deref() == Some("json"),
            Command::Logs(arguments) => arguments.format == LogFormat::Json,
            _ => false,
        }
    }

    /// Whether it makes a data directory that is not there yet, or wants none.
    pub(crate) fn may_begin(&self) -> bool {
        match self {
            Command::Doctor { .. } | Command::Pull { .. } | Command::Run(_) | Command::Create(_) => true,
            Command::Kernel(command) => {
                !matches!(command, KernelCommand::Ls { .. } | KernelCommand::Rm { .. })
            }
            Command::Image(command) => matches!(command, ImageCommand::Import { .. }),
            Command::Network(command) => matches!(command, NetworkCommand::Create { .. }),
            Command::Snapshot(command) => matches!(command, SnapshotCommand::Import { .. }),
            _ => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Names, or beginnings of ids
    #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AdoptArguments {
    /// All that have lost theirs
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Names, or beginnings of ids
    #[arg(required_unless_present = "all", value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StandbyArguments {
    #[command(flatten)]
    pub(crate) compression: CompressionArgument,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// Seconds until it is ended by force
    #[arg(short, long, default_value_t = 10)]
    pub(crate) time: u64,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Leave it running, and print its id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// With -d: come back when it runs, or is healthy if it has a health check
    #[arg(long, requires = "detach")]
    pub(crate) wait: bool,
    /// Show a terminal what the guest prints as it is, also what moves the cursor or sets the title; with -t it always is
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArgument,
    #[command(flatten)]
    pub(crate) create: CreateArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DetachKeysArgument {
    /// Keys that leave it alone again, where a terminal is attached
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_parser = DetachKeys::parse, value_name = "KEYS")]
    pub(crate) detach_keys: DetachKeys,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArguments {
    /// Only look; nothing is typed
    #[arg(long, visible_alias = "no-stdin")]
    pub(crate) read_only: bool,
    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArgument,
    /// How many of the last lines are shown first
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    pub(crate) tail: usize,
    /// Name, or the beginning of an id
    #[arg(add = ArgValueCompleter::new(names::instances))]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name for the instance [default: made up]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Remove the instance when it has ended
    #[arg(long)]
    pub(crate) rm: bool,
    /// Give the program an input: what is typed, or comes from a pipe
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the program the console as its terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set a variable, or pass on ours when no value is given
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set the variables in a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Program to run instead of the image's
    #[arg(long)]
    pub(crate) entrypoint: Option<String>,
    /// Working directory in the guest
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User in the guest
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Resource limit of the program, for example nofile=1024:4096 [default: nofile=1048576]
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = Ulimit::parse)]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Number of vCPUs
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) cpus: u32,
    /// Memory
    #[arg(short, long, default_value = "512m", value_parser = size::parse, value_name = "SIZE")]
    pub(crate) memory: u64,
    /// What to do when the guest reboots [default: restart for an image with an init of its own, stop for anything else]
    #[arg(long, value_enum)]
    pub(crate) on_reboot: Option<OnReboot>,
    /// How much the VMM is kept from the host: as far as this host can, strict (else it does not start), or off
    #[arg(long, value_enum, default_value_t = Confine::Auto)]
    pub(crate) confine: Confine,
    /// Memory that can be added while it runs (Cloud Hypervisor)
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub(crate) hotplug_size: Option<u64>,
    /// Size of the writable disk; takes room only as it fills
    #[arg(long, default_value = "10g", value_parser = size::parse, value_name = "SIZE")]
    pub(crate) disk_size: u64,
    /// Most bytes that each disk may move in a second
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub(crate) disk_bps: Option<u64>,
    /// Most reads and writes of each disk in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) disk_iops: Option<u64>,
    /// Virtual machine monitor
    #[arg(long, value_enum, default_value_t = Hypervisor::Qemu, env = "HYPEMAN_HYPERVISOR")]
    pub(crate) hypervisor: Hypervisor,
    #[command(flatten)]
    pub(crate) program: ProgramArgument,
    /// How the guest's instructions are executed; auto takes KVM when it really works
    #[arg(long, value_enum, default_value_t = Accel::Auto, env = "HYPEMAN_ACCEL")]
    pub(crate) accel: Accel,
    /// Kernel: a file (bzImage or PVH ELF), or a version from `hypeman kernel ls` [default: the newest]
    #[arg(long, value_name = "FILE|VERSION")]
    pub(crate) kernel: Option<PathBuf>,
    /// Initramfs to use instead of ours
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// Words for the kernel's command line
    #[arg(long, default_value = "", hide_default_value = true, value_name = "WORDS")]
    pub(crate) cmdline: String,
    /// Also show what the kernel and init print
    #[arg(long)]
    pub(crate) show_boot: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArguments,
    #[command(flatten)]
    pub(crate) health: HealthArguments,
    #[command(flatten)]
    pub(crate) log: LogLimitArguments,
    /// Image (optional when a kernel file is given), and arguments for its program
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
    /// Cloud Hypervisor's program [default: HYPEMAN_CLOUD_HYPERVISOR, else the one in PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) cloud_hypervisor: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgument {
    /// A table for people, json for one object a line, or a Go template as docker has them
    #[arg(long, default_value = "table", value_name = "table|json|TEMPLATE", value_parser = Format::parse)]
    pub(crate) format: Format,
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
    /// As this template says, which is kept to the end of the process.
    Template(&'static str),
}

impl Format {
    fn parse(text: &str) -> Result<Format, String> {
        match text {
            "table" => Ok(Format::Table),
            "json" => Ok(Format::Json),
            template if template.contains("{{") => Ok(Format::Template(template.to_owned().leak())),
            _ => Err("it has to be table, json, or a template like '{{.Name}}'".to_owned()),
        }
    }
}
