//! Words of flags, and what they mean.

use clap::ValueEnum;
use hypeman_record::confinement::Strictness;
use hypeman_record::record;
use hypeman_record::spec::{Accelerator, HypervisorKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(clippy::enum_variant_names)] // that is its name
pub(crate) enum Hypervisor {
    Qemu,
    QemuMicrovm,
    CloudHypervisor,
}

impl From<Hypervisor> for HypervisorKind {
    fn from(hypervisor: Hypervisor) -> HypervisorKind {
        match hypervisor {
            Hypervisor::Qemu => HypervisorKind::Qemu,
            Hypervisor::QemuMicrovm => HypervisorKind::QemuMicrovm,
            Hypervisor::CloudHypervisor => HypervisorKind::CloudHypervisor,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accel {
    Auto,
    Kvm,
    Tcg,
}

impl Accel {
    /// The accelerator that was asked for by name.
    pub(crate) fn chosen(self) -> Option<Accelerator> {
        match self {
            Accel::Auto => None,
            Accel::Kvm => Some(Accelerator::Kvm),
            Accel::Tcg => Some(Accelerator::Tcg),
        }
    }
}

/// How much a VMM is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Confine {
    /// All that this host supports
    Auto,
    /// All measures, or the VM does not start
    Strict,
    /// No confinement
    Off,
}

impl From<Confine> for Strictness {
    fn from(confine: Confine) -> Strictness {
        match confine {
            Confine::Auto => Strictness::Auto,
            Confine::Strict => Strictness::Strict,
            Confine::Off => Strictness::Off,
        }
    }
}

/// Action when the guest reboots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnReboot {
    /// Boot it again
    Restart,
    /// End the VM
    Stop,
}

impl From<OnReboot> for record::OnReboot {
    fn from(on_reboot: OnReboot) -> record::OnReboot {
        match on_reboot {
            OnReboot::Restart => record::OnReboot::Restart,
            OnReboot::Stop => record::OnReboot::Stop,
        }
    }
}

/// State that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// The program runs
    Running,
    /// The health check succeeds
    Healthy,
}
