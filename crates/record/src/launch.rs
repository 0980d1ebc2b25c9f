//! Resolved launch of a record for one start: all that the shim needs, so that it looks up nothing.

use serde::{Deserialize, Serialize};

use crate::confinement::Strictness;
use crate::format::{Envelope, Versioned};
use crate::guest::config::Mode;
use crate::network::NetworkConfig;
use crate::program::Program;
use crate::record::{LogLimits, OnReboot};
use crate::spec::{HypervisorKind, VmSpec};

/// The order to the shim, `launch.json`. Paths are relative to the instance's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The VMM.
    pub hypervisor: HypervisorKind,
    /// The VMM's program as it was found; absent in orders of older releases.
    #[serde(default)]
    pub found: Option<Program>,
    /// The VM.
    pub spec: VmSpec,
    /// Kind of the guest's process 1.
    pub guest: Guest,
    /// Note for the user about this start, for hypeman.log.
    pub note: Option<String>,
    /// How much the VMM is to be confined.
    #[serde(default)]
    pub confine: Strictness,
    /// How it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// Limits of each log.
    pub log: LogLimits,
    /// Remove the instance when its VM has ended.
    pub auto_remove: bool,
    /// Action when the guest reboots.
    #[serde(default)]
    pub on_reboot: OnReboot,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Launch {
    /// The order for a bare kernel, with the usual logs, no network, and an end at a reboot.
    #[must_use]
    pub fn new(hypervisor: HypervisorKind, spec: VmSpec) -> Launch {
        Launch {
            hypervisor,
            found: None,
            spec,
            guest: Guest::Bare,
            note: None,
            confine: Strictness::default(),
            network: None,
            log: LogLimits::default(),
            auto_remove: false,
            on_reboot: OnReboot::Stop,
            envelope: Envelope::of::<Launch>(),
        }
    }
}

impl Versioned for Launch {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// Kind of guest, by which the host knows what to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guest {
    /// Our init runs a command, and reports.
    Exec,
    /// Our init hands over to an init system, and reports no more from then on.
    Systemd,
    /// A kernel of the user's, without our init.
    Bare,
}

impl Guest {
    /// The kind of guest for a command; without one it is [`Guest::Bare`].
    #[must_use]
    pub fn of(mode: Option<Mode>) -> Guest {
        match mode {
            Some(Mode::Exec) => Guest::Exec,
            Some(Mode::Systemd) => Guest::Systemd,
            None => Guest::Bare,
        }
    }
}
