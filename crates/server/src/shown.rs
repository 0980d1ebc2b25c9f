//! The host's words in those of the API, and back.

mod create;
pub(crate) mod image;
mod instance;
mod snapshot;

use hypeman_record::spec::HypervisorKind;
use hypeman_wire::instance::Hypervisor;

use crate::refusal::{Answer, Refusal};

pub(crate) use create::{check_platform, create_request};
pub(crate) use instance::{instance, state, state_error};
pub(crate) use snapshot::{compression, snapshot};

/// The only platform whose images can run.
pub(crate) const PLATFORM: &str = "linux/amd64";

/// Name of a hypervisor in the API.
pub(crate) fn hypervisor(kind: HypervisorKind) -> Hypervisor {
    match kind {
        HypervisorKind::Qemu => Hypervisor::Qemu,
        HypervisorKind::QemuMicrovm => Hypervisor::QemuMicrovm,
        HypervisorKind::CloudHypervisor => Hypervisor::CloudHypervisor,
    }
}

/// Hypervisor of a name in the API.
///
/// # Errors
/// When there is none here.
pub(crate) fn hypervisor_kind(hypervisor: Hypervisor) -> Answer<HypervisorKind> {
    match hypervisor {
        Hypervisor::Qemu => Ok(HypervisorKind::Qemu),
        Hypervisor::QemuMicrovm => Ok(HypervisorKind::QemuMicrovm),
        Hypervisor::CloudHypervisor => Ok(HypervisorKind::CloudHypervisor),
        Hypervisor::Firecracker | Hypervisor::Vz => {
            let message = format!(
                "hypervisor {} is not supported; there are cloud-hypervisor, qemu and qemu-microvm",
                word(hypervisor)
            );
            Err(Refusal::not_supported(message))
        }
    }
}

/// Word of the API for a value, as it is in JSON.
pub(crate) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
