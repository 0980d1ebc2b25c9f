//! The hypervisors of this host.

use hypeman_record::guest::config::AgentChannel;
use hypeman_record::spec::HypervisorKind;

use crate::host::Host;

/// All hypervisors, by name.
const ALL: [HypervisorKind; 3] =
    [HypervisorKind::CloudHypervisor, HypervisorKind::Qemu, HypervisorKind::QemuMicrovm];

/// A hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Which one.
    pub hypervisor: HypervisorKind,
    /// Whether its program is installed.
    pub is_installed: bool,
    /// Whether memory can be added to its running VMs.
    pub adds_memory: bool,
    /// Whether its guests are reached by vsock.
    pub has_vsock: bool,
}

impl Host {
    /// Lists the hypervisors, by name.
    #[must_use]
    pub fn runtimes(&self) -> Vec<Runtime> {
        let findings = self.findings();
        let runtime = |kind: HypervisorKind| {
            let hypervisor = hypeman_vmm::hypervisor(kind);
            let abilities = hypervisor.abilities();
            Runtime {
                hypervisor: kind,
                is_installed: hypervisor.discover(None, &findings).is_ok(),
                adds_memory: abilities.memory_hotplug.is_some(),
                has_vsock: abilities.agent == AgentChannel::Vsock,
            }
        };
        ALL.into_iter().map(runtime).collect()
    }
}
