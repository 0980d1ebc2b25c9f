//! The record of the last run, written by the shim alone.

use hypeman_vmm::spec::Accelerator;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::end::End;
use crate::format::{Envelope, Versioned};
use crate::process::Process;

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
    /// When and how it ended; absent while it runs, and for ever if the shim was killed first.
    pub end: Option<Ended>,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Versioned for Run {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
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
