//! Record of an instance: the user's settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::confinement::Strictness;
use crate::format::{Envelope, Versioned};
use crate::guest::config::{HealthCheck, Mode, Stdio};
use crate::guest::ulimit::Ulimit;
use crate::network::NetworkSettings;
use crate::spec::{Accelerator, HypervisorKind, RateLimit};

/// The record of an instance, `instance.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 24 hexadecimal digits; also the name of the directory.
    pub id: String,
    /// Unique among the instances of a data directory.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The user's tags (docker's labels), by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The image, unless only a kernel is booted.
    pub image: Option<ImageUse>,
    /// Command to run in the image; present exactly when `image` is.
    pub command: Option<CommandSpec>,
    /// The kernel.
    pub kernel: KernelUse,
    /// Whether the user gave an initramfs of their own, kept in the directory.
    pub own_initrd: bool,
    /// The VM, and how to treat it.
    #[serde(flatten)]
    pub settings: Settings,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Record {
    /// The machine-id of a copy of another machine: the 128 bits of one (machine-id(5)) from our
    /// 96, and a mark that it is ours.
    #[must_use]
    pub fn machine_id(id: &str) -> String {
        format!("{id}68797065")
    }
}

impl Versioned for Record {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// Settings of a VM as the user gave them, kept in its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Added to the kernel's command line; all of it when there is no image.
    pub cmdline: String,
    /// Show the kernel's and init's messages on the console.
    pub show_boot: bool,
    /// The VMM.
    pub hypervisor: HypervisorKind,
    /// The VMM's program; `None` is the one that is found at each start.
    pub program: Option<PathBuf>,
    /// KVM, TCG or (`None`) whichever works at each start.
    pub accelerator: Option<Accelerator>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Memory in bytes that can be added while the VM runs.
    pub hotplug_memory: Option<u64>,
    /// Size of the writable overlay in bytes.
    pub disk_size: u64,
    /// Limits of the root and the overlay disk, for each.
    pub disk_rate_limit: Option<RateLimit>,
    /// Limits of each log.
    pub log: LogLimits,
    /// Remove the instance when its VM has ended.
    pub auto_remove: bool,
    /// Action when the guest reboots; `None` chooses by the kind of guest.
    #[serde(default)]
    pub on_reboot: Option<OnReboot>,
    /// How much its VMM is confined.
    #[serde(default)]
    pub confine: Strictness,
    /// How it is connected; VMs of before there were networks are not.
    #[serde(default)]
    pub network: NetworkSettings,
}

impl Settings {
    /// Memory in bytes that its guest may have, with all that can be added.
    #[must_use]
    pub fn max_memory(&self) -> u64 {
        self.memory + self.hotplug_memory.unwrap_or(0)
    }

    /// Maximum rate of each disk in bytes a second.
    #[must_use]
    pub fn max_disk_rate(&self) -> Option<u64> {
        self.disk_rate_limit.and_then(|limit| limit.bytes_per_second)
    }
}

impl Record {
    /// Size of the writable overlay in bytes; 0 without an image.
    #[must_use]
    pub fn overlay_size(&self) -> u64 {
        if self.image.is_some() { self.settings.disk_size } else { 0 }
    }
}

/// docker's defaults, as far as it has them: one vCPU, 512 MiB of memory and 10 GiB of disk, on
/// QEMU.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cmdline: String::new(),
            show_boot: false,
            hypervisor: HypervisorKind::Qemu,
            program: None,
            accelerator: None,
            vcpus: 1,
            memory: 512 << 20,
            hotplug_memory: None,
            disk_size: 10 << 30,
            disk_rate_limit: None,
            log: LogLimits::default(),
            auto_remove: false,
            on_reboot: None,
            confine: Strictness::default(),
            network: NetworkSettings::default(),
        }
    }
}

/// An image by what the user called it and by what it was at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// The reference given by the user.
    pub reference: String,
    /// Digest of the image; the instance keeps it even if the reference moves on.
    pub digest: String,
}

/// Command that init starts in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// Exec or systemd mode.
    pub mode: Mode,
    /// Entrypoint and arguments.
    pub argv: Vec<String>,
    /// Number of the first words of `argv` that are the entrypoint; records of before it was kept
    /// do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint_words: Option<usize>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub workdir: String,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// Number of the signal that asks the program to end; `None` is SIGTERM.
    pub stop_signal: Option<i32>,
    /// Resource limits. Records of before there were any have docker's of open files.
    #[serde(default = "default_ulimits")]
    pub ulimits: Vec<Ulimit>,
    /// Whether it gets a PID namespace of its own, to be process 1 there.
    #[serde(default)]
    pub pid_namespace: bool,
    /// Its input and output.
    #[serde(default)]
    pub stdio: Stdio,
    /// Its health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
}

fn default_ulimits() -> Vec<Ulimit> {
    vec![Ulimit::open_files()]
}

/// Where the kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelUse {
    /// One of `hypeman kernel ls`, by version.
    Version(String),
    /// A file of the user's, copied into the instance's directory.
    Own {
        /// Where it was when the instance was created; for people only.
        source: PathBuf,
    },
}

/// Limits of a log: it never takes more than `max_size * (max_files + 1)` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Largest size of one file in bytes.
    pub max_size: u64,
    /// Number of rotated files beside the current one.
    pub max_files: u32,
    /// Handling of output that the disk does not take.
    #[serde(default)]
    pub mode: LogMode,
    /// Maximum number of bytes to buffer in non-blocking mode; `None` is docker's 1 MiB.
    #[serde(default)]
    pub max_buffer_size: Option<u64>,
}

/// Three rotated files of 50 MB, for which the guest waits.
impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { max_size: 50 << 20, max_files: 3, mode: LogMode::Blocking, max_buffer_size: None }
    }
}

impl LogLimits {
    /// How many bytes may wait before more is lost; `None` if nothing is ever lost.
    #[must_use]
    pub fn loses_beyond(&self) -> Option<u64> {
        (self.mode == LogMode::NonBlocking).then(|| self.max_buffer_size.unwrap_or(1 << 20))
    }
}

/// Handling of output that the disk does not take: docker's two modes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogMode {
    /// The guest waits.
    #[default]
    Blocking,
    /// It is lost, counted, and told in the log.
    NonBlocking,
}

/// Action when the guest reboots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReboot {
    /// It is booted again, under the same shim.
    Restart,
    /// It has ended.
    #[default]
    Stop,
}
