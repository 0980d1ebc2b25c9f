//! The record of the last run, written by the shim alone.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::confinement::Measure;
use crate::end::End;
use crate::format::{Envelope, Versioned};
use crate::network::Published;
use crate::process::Process;
use crate::spec::Accelerator;

/// The last run of an instance, `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The boot of the host in which it ran.
    pub boot_id: String,
    /// The shim.
    pub shim: Process,
    /// The VMM.
    pub vmm: Process,
    /// The VMM's program and version, for example `/usr/bin/qemu-system-x86_64 7.2.22`.
    pub hypervisor: String,
    /// KVM or TCG, as it was started.
    pub accelerator: Accelerator,
    /// When the VM was started.
    pub started: Timestamp,
    /// How often its guest has rebooted since.
    #[serde(default)]
    pub reboots: u32,
    /// Descriptors that the VMM holds for the next shim; absent in runs of before VMMs did so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Parts of the VMM's sandbox, also those that the host lacks; empty in runs of before VMMs had
    /// one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confinement: Vec<Measure>,
    /// The VMM's cgroup, to be removed when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// Ports of the guest's that can be reached on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// The shims that have taken the VM over, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adoptions: Vec<Adoption>,
    /// When and how it ended; absent while it runs, and for ever if the shim was killed first.
    pub end: Option<Ended>,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Run {
    /// The format of a run that has not ended in standby: releases of before there was such a thing
    /// understand it.
    pub const WITHOUT_STANDBY: u32 = 1;
}

impl Versioned for Run {
    const FORMAT: u32 = 2;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// Numbers of descriptors in the VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The memory of what was read from the console and is not in the log.
    pub console_memory: i32,
    /// The socket in which the console's connection lies.
    pub console_connection: i32,
    /// Its end on a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<i32>,
}

/// A shim's taking over of a VM that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// When.
    pub at: Timestamp,
    /// Why it was needed.
    pub reason: String,
    /// The shim from whom.
    pub from: Process,
    /// The release that has taken over.
    pub release: String,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When the VMM's process was gone.
    pub at: Timestamp,
    /// How it ended.
    #[serde(flatten)]
    pub end: End,
}
