//! The trait each hypervisor implements, in the order in which a supervisor calls it.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;

use async_trait::async_trait;
use hypeman_record::program::Program;
use hypeman_record::spec::{Accelerator, Backend, CpuFeatures, VmSpec};

use crate::error::{Error, Result, Unsupported};
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
    /// Whether memory can be added to a VM that runs.
    pub memory_hotplug: bool,
    /// What can be at the other end of an interface.
    pub backends: &'static [Backend],
}

impl Abilities {
    /// Whether it has this accelerator.
    #[must_use]
    pub fn runs_on(&self, accelerator: Accelerator) -> bool {
        self.accelerators.contains(&accelerator)
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
        if spec.hotplug_memory.is_some() && !abilities.memory_hotplug {
            return Err(Error::Unsupported(Unsupported::MemoryHotplug));
        }
        if !abilities.runs_on(spec.accelerator) {
            return Err(Error::Unsupported(Unsupported::Tcg));
        }
        if spec.nic.as_ref().is_some_and(|nic| !abilities.backends.contains(&nic.backend)) {
            return Err(Error::Unsupported(Unsupported::UserNetwork));
        }
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
