//! Sandbox of an instance's VMM.

use std::path::Path;

use hypeman_confine::{Confinement, Needs};
use hypeman_record::confinement::Strictness;
use hypeman_record::launch::Launch;
use hypeman_record::program::Program;
use hypeman_record::spec::Accelerator;
use hypeman_vmm::home::HOME;
use hypeman_vmm::process::Start;

use crate::error::{Result, StartContext};

/// Memory that a VMM takes beside its guest's, in bytes: some 100 MiB of its own, and disks' pages
/// that the kernel keeps for it.
const OVERHEAD: u64 = 512 << 20;

/// Maximum size of QEMU's translated code in bytes (accel/tcg/region.c,
/// `DEFAULT_CODE_GEN_BUFFER_SIZE`).
const TRANSLATED: u64 = 1 << 30;

/// Threads beside those of the vCPUs. QEMU has 64 at most for the disks (util/thread-pool.c), Cloud
/// Hypervisor one for each queue.
const THREADS: u64 = 256;

/// Builds what this host can give the VMM that is about to be started in the current directory;
/// `None` when it is to have none.
pub(crate) fn prepare(launch: &Launch, program: &Program, start: &Start) -> Result<Option<Confinement>> {
    if launch.confine == Strictness::Off {
        return Ok(None);
    }
    let spec = &launch.spec;
    let translated = if spec.accelerator == Accelerator::Tcg { TRANSLATED } else { 0 };
    let directory = std::env::current_dir().start("find the instance's directory")?;
    let needs = Needs {
        program: &program.path,
        home: spec.by_descriptor.then_some(Path::new(HOME)),
        files: &start.given,
        kvm: spec.accelerator == Accelerator::Kvm,
        io_uring: hypeman_vmm::hypervisor(launch.hypervisor).abilities().filters_io_uring,
        name: &directory.file_name().unwrap_or_default().to_string_lossy(),
        memory: spec.memory + spec.hotplug_memory.unwrap_or(0) + OVERHEAD + translated,
        threads: u64::from(spec.vcpus) + THREADS,
    };
    hypeman_confine::prepare(&needs, launch.confine).map(Some).start("confine the VMM")
}
