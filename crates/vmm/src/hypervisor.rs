//! The trait each hypervisor implements, in the order in which a supervisor calls it.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;

use async_trait::async_trait;
use hypeman_record::guest::config::AgentChannel;
use hypeman_record::program::Program;
use hypeman_record::spec::{Accelerator, Backend, CpuFeatures, VmSpec};

use crate::error::{Result, Unsupported};
use crate::findings::Findings;
use crate::process::{Start, VmmProcess};
use crate::vm::Vm;

/// A VMM that runs, to make a VM in or to take one over.
#[derive(Debug, Clone, Copy)]
pub struct Vmm<'a> {
    /// Its program.
    pub program: &'a Program,
    /// Its directory; the caller's current one too when its path is long (a socket's has at most
    /// 107 bytes).
    pub directory: &'a Path,
    /// Its process.
    pub process: &'a Rc<VmmProcess>,
    /// The other end of its VM's interface, which it has as well.
    pub network: Option<BorrowedFd<'a>>,
}

/// Where a VM's life begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// It boots.
    Boot,
    /// It goes on where it was when [`crate::vm::Vm::snapshot`] wrote this directory. Of Cloud
    /// Hypervisor's, what the snapshot says of the serial line is to be fit for this VMM
    /// ([`crate::cloud_hypervisor::snapshot::prepare_restore`]).
    Restore(&'a Path),
}

/// Abilities of a hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// How it can execute a guest's instructions.
    pub accelerators: &'static [Accelerator],
    /// Granularity in bytes of memory that is added to a running VM; `None` if none can be.
    pub memory_hotplug: Option<u64>,
    /// Kinds of network backends that it can use.
    pub backends: &'static [Backend],
    /// Channel between the host and the guest agent.
    pub agent: AgentChannel,
    /// Whether its own seccomp filter is stricter about io_uring than hypeman's can be.
    pub filters_io_uring: bool,
}

impl Abilities {
    /// Whether it has this accelerator.
    #[must_use]
    pub fn runs_on(&self, accelerator: Accelerator) -> bool {
        self.accelerators.contains(&accelerator)
    }

    /// Refuses an accelerator that it lacks.
    ///
    /// # Errors
    /// [`Unsupported::Tcg`].
    pub fn check_accelerator(&self, accelerator: Accelerator) -> std::result::Result<(), Unsupported> {
        if self.runs_on(accelerator) { Ok(()) } else { Err(Unsupported::Tcg) }
    }

    /// Refuses a network backend that it lacks.
    ///
    /// # Errors
    /// [`Unsupported::UserNetwork`].
    pub fn check_backend(&self, backend: Backend) -> std::result::Result<(), Unsupported> {
        if self.backends.contains(&backend) { Ok(()) } else { Err(Unsupported::UserNetwork) }
    }

    /// Refuses a size of memory, in bytes, that it cannot add.
    ///
    /// # Errors
    /// [`Unsupported::MemoryHotplug`] and [`Unsupported::HotplugSize`].
    pub fn check_hotplug(&self, size: u64) -> std::result::Result<(), Unsupported> {
        match self.memory_hotplug {
            None => Err(Unsupported::MemoryHotplug),
            Some(block) if size == 0 || !size.is_multiple_of(block) => Err(Unsupported::HotplugSize(block)),
            Some(_) => Ok(()),
        }
    }
}

/// A hypervisor: makes VMs of its kind. Stateless.
#[async_trait(?Send)]
pub trait Hypervisor {
    /// Returns its abilities.
    fn abilities(&self) -> Abilities;

    /// Refuses what it cannot do, by kind.
    fn check(&self, spec: &VmSpec) -> Result<()> {
        let abilities = self.abilities();
        if spec.hotplug_memory.is_some() && abilities.memory_hotplug.is_none() {
            return Err(Unsupported::MemoryHotplug.into());
        }
        abilities.check_accelerator(spec.accelerator)?;
        spec.nic.as_ref().map_or(Ok(()), |nic| abilities.check_backend(nic.backend))?;
        Ok(())
    }

    /// Finds the program (`path`, else the `HYPEMAN_*` variable, else `PATH`) and its version.
    fn discover(&self, path: Option<&Path>, findings: &Findings) -> Result<Program>;

    /// The CPU features with which `program` runs VMs on this host's KVM.
    fn cpu_features(&self, _program: &Program, _findings: &Findings) -> Result<CpuFeatures> {
        Ok(CpuFeatures::default())
    }

    /// Words that Linux needs on its command line to run well there.
    fn kernel_words(&self, _accelerator: Accelerator) -> Vec<String> {
        Vec::new()
    }

    /// Prepares `directory` (the VMM's home, FIFOs, no stale sockets) and tells how the VMM is
    /// started there. It must start with the guest stopped.
    fn command(
        &self,
        program: &Program,
        directory: &Path,
        spec: &VmSpec,
        origin: Origin<'_>,
    ) -> Result<Start>;

    /// Connects to the API of the VMM that was just started from [`Hypervisor::command`], and makes
    /// the VM there. Its guest does not run yet. The caller drops this future when the VMM's
    /// process ends. Needs a tokio `LocalSet`.
    async fn create(&self, vmm: Vmm<'_>, spec: &VmSpec, origin: Origin<'_>) -> Result<Box<dyn Vm>>;

    /// Connects to a VM that runs, and whose shim is gone. Events of the VMM that nobody has heard
    /// are heard now; requests that it was asked and has not done yet is done, or forgotten, before
    /// its state is told.
    async fn adopt(&self, vmm: Vmm<'_>) -> Result<Box<dyn Vm>>;

    /// Removes the sockets of a VMM that has ended, however it did. What cannot be removed is no
    /// obstacle to a new start.
    fn clean_up(&self, directory: &Path);
}

#[cfg(test)]
mod tests {
    use hypeman_record::spec::HypervisorKind;

    use super::*;

    #[test]
    fn memory_is_added_in_whole_blocks_and_only_where_it_can_be() {
        let check = |kind, size| crate::hypervisor(kind).abilities().check_hotplug(size);
        assert_eq!(check(HypervisorKind::Qemu, 128 << 20), Err(Unsupported::MemoryHotplug));
        assert_eq!(check(HypervisorKind::CloudHypervisor, 256 << 20), Ok(()));
        let block = Err(Unsupported::HotplugSize(128 << 20));
        assert_eq!(check(HypervisorKind::CloudHypervisor, 100 << 20), block);
        assert_eq!(check(HypervisorKind::CloudHypervisor, 0), block);
    }
}
