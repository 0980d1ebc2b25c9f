//! The host's words in those of the API.

use hypeman_record::spec::HypervisorKind;
use hypeman_wire::instance::Hypervisor;

/// Name of a hypervisor.
pub(crate) fn hypervisor(kind: HypervisorKind) -> Hypervisor {
    match kind {
        HypervisorKind::Qemu => Hypervisor::Qemu,
        HypervisorKind::QemuMicrovm => Hypervisor::QemuMicrovm,
        HypervisorKind::CloudHypervisor => Hypervisor::CloudHypervisor,
    }
}

/// Word of the API for a value, as it is in JSON.
pub(crate) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
