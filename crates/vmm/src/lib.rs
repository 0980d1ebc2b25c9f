//! Hypervisors behind one trait: how a VM is described, started, watched and stopped.
//!
//! Owns the drivers of QEMU and Cloud Hypervisor and the probes of KVM. Every path is relative to
//! the VMM's working directory, so that no socket path is too long and a directory can be copied as
//! it is.
//!
//! Must not know: instances, images, networks.

pub mod cloud_hypervisor;
mod error;
pub mod fifo;
pub mod findings;
pub mod given;
pub mod home;
pub mod hypervisor;
pub mod kvm;
pub mod process;
pub mod program;
pub mod qemu;
mod socket;

pub mod tsc;
pub mod vm;

pub use error::{Error, Result, Unsupported};
use hypeman_record::spec::HypervisorKind;
use hypervisor::Hypervisor;

/// The driver of a kind of hypervisor.
#[must_use]
pub fn hypervisor(kind: HypervisorKind) -> Box<dyn Hypervisor> {
    match kind {
        HypervisorKind::Qemu => Box::new(qemu::Qemu { machine: qemu::Machine::Q35 }),
        HypervisorKind::QemuMicrovm => Box::new(qemu::Qemu { machine: qemu::Machine::Microvm }),
        HypervisorKind::CloudHypervisor => Box::new(cloud_hypervisor::CloudHypervisor),
    }
}
