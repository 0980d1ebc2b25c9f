//! The command line.

mod choices;
mod create;
mod guest;
mod health;
mod image;
mod labels;
mod log_limits;
mod logs;
mod network;
mod serve;
mod snapshot;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCompleter;

pub(crate) use choices::{Hypervisor, WaitFor};
pub(crate) use create::{CreateArguments, ProgramArgument};
pub(crate) use guest::{CopyArguments, ExecArguments, ExportArguments};
pub(crate) use image::{ImageCommand, ImageLimit, KernelCommand};
pub(crate) use labels::Labels;
pub(crate) use logs::{LogFormat, LogsArguments, Source, Tail};
pub(crate) use network::{NetworkArguments, NetworkCommand};
pub(crate) use serve::{ConfigArgument, ServeArguments, TokenArguments};
pub(crate) use snapshot::{BecomeArguments, CompressionArgument, SnapshotCommand, SnapshotKind, TargetState};

use crate::detach_keys::DetachKeys;
use crate::filter::Filter;
use crate::names;

/// Run OCI images as virtual machines and keep their console logs whole.
#[derive(Debug, Parser)]
#[command(name = "hypeman", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Data directory [default: HYPEMAN_DATA_DIR, else /var/lib/hypeman as root and
    /// ~/.local/share/hypeman for other users]
    // Without clap's `env`, to which an empty variable is a wrong value.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check this machine's requirements
    Doctor {
        #[command(flatten)]
        program: ProgramArgument,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Manage guest kernels
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Pull an image from a registry
    Pull {
        #[command(flatten)]
        limit: ImageLimit,
        /// Image, as in `debian:12` or `127.0.0.1:5000/app@sha256:...`
        reference: String,
    },
    /// Manage images
    #[command(subcommand)]
    Image(ImageCommand),
    /// List images, as `image ls` does
    Images {
        /// Print digests only
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
    /// Create an instance, start it and show its output
    Run(RunArguments),
    /// Create an instance without starting it
    Create(CreateArguments),
    /// Start instances
    Start(Names),
    /// Stop instances: ask the guest, then end the VM
    Stop(StopArguments),
    /// End instances at once, or send a signal to their program
    Kill {
        /// Signal for the program [default: end the VM]
        #[arg(short, long)]
        signal: Option<String>,
        #[command(flatten)]
        names: Names,
    },
    /// Restart instances
    Restart(StopArguments),
    /// Pause the vCPUs of instances
    Pause(Names),
    /// Resume paused instances
    #[command(alias = "unpause")]
    Resume(Names),
    /// Write the memory of instances to disk and end their VMMs
    Standby(StandbyArguments),
    /// Restore instances from standby
    Restore(Names),
    /// Copy an instance with its disks and its memory
    Fork {
        /// State of the copy [default: that of the source]
        #[arg(long, value_enum)]
        state: Option<TargetState>,
        #[command(flatten)]
        labels: Labels,
        /// Name, id or id prefix
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
        source: String,
        /// Name for the new instance
        #[arg(value_name = "NEW")]
        name: String,
    },
    /// Start the instances that ran when the host was rebooted
    ResumeAll,
    /// Wait for instances to end and print their exit codes
    Wait {
        /// Wait until they run or are healthy, and print nothing
        #[arg(long = "for", value_enum, value_name = "STATE")]
        until: Option<WaitFor>,
        /// Timeout, in seconds or as 1m30s
        #[arg(long, value_name = "TIME", value_parser = crate::time::duration)]
        timeout: Option<Duration>,
        #[command(flatten)]
        names: Names,
    },
    /// Manage snapshots
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Adopt running VMs whose shim was killed
    Adopt(AdoptArguments),
    /// Replace the shims of running VMs by this program's [default: all shims of another program]
    UpgradeShims {
        /// Names, ids or id prefixes
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
        names: Vec<String>,
    },
    /// List instances
    Ps {
        /// Include instances that do not run
        #[arg(short, long)]
        all: bool,
        /// Print ids only
        #[arg(short, long)]
        quiet: bool,
        /// Filter by name=, id=, status=, ancestor=, network=, health=, exited= or label=
        #[arg(short, long, value_name = "KEY=VALUE")]
        filter: Vec<Filter>,
        /// Do not truncate output
        #[arg(long)]
        no_trunc: bool,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print details of instances as JSON
    Inspect {
        /// Format with a Go template, as docker does
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        #[command(flatten)]
        names: Names,
    },
    /// Rename an instance
    Rename {
        /// Name, id or id prefix
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
        /// The new name
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Attach to the console and keyboard of a running instance
    Attach(AttachArguments),
    /// Run a command in a running instance
    Exec(ExecArguments),
    /// Copy files between an instance and this host
    Cp(CopyArguments),
    /// Export the files of a running instance as a tar stream
    Export(ExportArguments),
    /// Show a file of a running instance
    Stat {
        /// Follow a link
        #[arg(short = 'L', long)]
        follow: bool,
        #[command(flatten)]
        format: FormatArgument,
        /// Name, id or id prefix
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
        /// Path in the guest
        path: OsString,
    },
    /// List the processes of a running instance
    Top {
        #[command(flatten)]
        format: FormatArgument,
        /// Name, id or id prefix
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
    },
    /// Show the resource usage of instances [default: all that run]
    Stats {
        /// Print once
        #[arg(long)]
        no_stream: bool,
        #[command(flatten)]
        format: FormatArgument,
        /// Names, ids or id prefixes
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
        names: Vec<String>,
    },
    /// List the published ports of an instance
    Port {
        #[command(flatten)]
        format: FormatArgument,
        /// Name, id or id prefix
        #[arg(add = ArgValueCompleter::new(names::instances))]
        name: String,
        /// Port of the guest, as `80` or `53/udp`
        port: Option<String>,
    },
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Show the logs of instances
    Logs(LogsArguments),
    /// Remove instances with their disks and logs
    Rm {
        /// Remove running instances too
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        names: Names,
    },
    /// Serve the HTTP API
    Serve(ServeArguments),
    /// Make a token for the HTTP API
    Token(TokenArguments),
    /// Write manual pages into a directory
    #[command(hide = true)]
    Man { directory: PathBuf },
    /// Print a shell completion script
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
    /// Names, ids or id prefixes
    #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AdoptArguments {
    /// All VMs without a shim
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Names, ids or id prefixes
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
    /// Seconds before the VM is ended by force
    #[arg(short, long, default_value_t = 10)]
    pub(crate) time: u64,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Run in the background and print the id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// With -d: wait until it runs, or is healthy if it has a health check
    #[arg(long, requires = "detach")]
    pub(crate) wait: bool,
    /// Do not escape control sequences on a terminal; implied by -t
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArgument,
    #[command(flatten)]
    pub(crate) create: CreateArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DetachKeysArgument {
    /// Keys that detach the terminal
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_parser = DetachKeys::parse, value_name = "KEYS")]
    pub(crate) detach_keys: DetachKeys,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArguments {
    /// Do not attach the keyboard
    #[arg(long, visible_alias = "no-stdin")]
    pub(crate) read_only: bool,
    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArgument,
    /// Number of last lines to show first
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    pub(crate) tail: usize,
    /// Name, id or id prefix
    #[arg(add = ArgValueCompleter::new(names::instances))]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgument {
    /// Output format: table, json (one object a line) or a Go template
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
            _ => Err("must be table, json, or a template like '{{.Name}}'".to_owned()),
        }
    }
}
