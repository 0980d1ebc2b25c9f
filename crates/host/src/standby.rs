//! Sleep on disk: a VM that runs is put to standby, and goes on from there.

use std::path::Path;

use hypeman_record::launch::Launch;
use hypeman_record::program::Program;
use hypeman_record::protocol::Request;
use hypeman_record::spec::VmSpec;
use hypeman_record::state::State;
use hypeman_snapshot::cpu::Cpu;
use hypeman_snapshot::{Manifest, compression, standby};
use hypeman_vmm::findings::Findings;

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::processes::{Holder, KILL_TIMEOUT, look, wait_for_shim};
use crate::spawn::{Begin, Programs, Started, become_starter, start_shim};
use crate::stop::ask_active;
use crate::store::Store;
use crate::{adopt, nap, network};

/// Writes a VM's memory into the directory of its instance, and ends its VMM; returns when that is
/// done. One that sleeps already is left as it is. A VM whose shim was killed gets another first,
/// of the program `hypeman`.
///
/// # Errors
/// When it does not run, or its snapshot cannot be written; then it runs on.
pub(crate) fn standby(instance: &Instance, hypeman: &Path) -> Result<()> {
    adopt::adopt(instance, hypeman)?;
    nap::give_up(instance)?;
    if look(&instance.directory)?.0 == Holder::Nobody && instance.observe()?.state == State::Standby {
        return Ok(());
    }
    ask_active(instance, &Request::Standby)?;
    wait_for_shim(instance, KILL_TIMEOUT).map(drop)
}

/// Lets an instance go on from its snapshot; returns when its guest runs and its console is being
/// kept.
///
/// # Errors
/// When it has no snapshot, or one that does not fit this host, or is damaged; it is in standby
/// then as before.
pub(crate) fn restore(store: &Store, instance: &Instance, programs: &Programs) -> Result<Started> {
    adopt::adopt(instance, &programs.hypeman)?; // what is left of a VMM that never ran is ended
    let Some(alive) = become_starter(instance, Begin::Restore)? else { return Ok(Started::Already) };
    let order = |instance: &Instance| launch(store, instance);
    match start_shim(instance, programs, Begin::Restore, alive, order) {
        Err(Error::Start { name, kind, reason }) => Err(Error::Restore { name, kind, reason }),
        started => started.map(Started::Now),
    }
}

/// Returns the snapshot's launch, with the instance's own name and network.
fn launch(store: &Store, instance: &Instance) -> Result<Launch> {
    let findings = &Findings::in_directory(store.data_dir().path());
    let record = &instance.record;
    let unfit = |problem| Error::Snapshot { name: record.name.clone(), problem };
    // Nobody waits for a compression.
    let _still = compression::stop(&instance.directory).map_err(unfit)?;
    let manifest = standby::manifest(&instance.directory).map_err(unfit)?;
    standby::look(&instance.directory, &manifest).map_err(unfit)?;
    let hypervisor = hypeman_vmm::hypervisor(manifest.launch.hypervisor);
    let program = hypervisor.discover(record.settings.program.as_deref(), findings)?;
    check_host(&manifest, &program).map_err(unfit)?;
    compression::expand(&instance.directory).map_err(unfit)?;
    let launch = manifest.launch;
    // A VM that has no interface gets none by going on.
    let network = network::config(store, instance)?.filter(|_| launch.spec.nic.is_some());
    Ok(Launch {
        found: Some(program),
        spec: VmSpec { name: record.name.clone(), ..launch.spec },
        note: None,
        network: network.map(|config| network::as_before(config, instance)),
        log: record.settings.log,
        confine: record.settings.confine,
        auto_remove: record.settings.auto_remove,
        ..launch
    })
}

/// Why an instance that sleeps cannot go on here as things are: its VMM's program was replaced by
/// another release, or is gone, or the CPU is another.
#[must_use]
pub(crate) fn hindrance(store: &Store, instance: &Instance) -> Option<String> {
    let manifest = standby::manifest(&instance.directory).ok()?;
    let hypervisor = hypeman_vmm::hypervisor(manifest.launch.hypervisor);
    let findings = Findings::in_directory(store.data_dir().path());
    match hypervisor.discover(instance.record.settings.program.as_deref(), &findings) {
        Ok(program) => check_host(&manifest, &program).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// Refuses a host that cannot restore the snapshot: memory and devices need the release that wrote
/// them, and a guest on KVM the CPU that it knows.
fn check_host(manifest: &Manifest, program: &Program) -> hypeman_snapshot::Result<()> {
    if let Some(saved) = manifest.launch.found.as_ref().filter(|saved| saved.version != program.version) {
        let told = |program: &Program| format!("{} {}", program.path.display(), program.version);
        return Err(hypeman_snapshot::Error::OtherVersion { saved: told(saved), found: told(program) });
    }
    if let (Some(saved), Some(found)) = (&manifest.cpu, Cpu::of_this_host())
        && !saved.is_fit(&found)
    {
        return Err(hypeman_snapshot::Error::OtherCpu { saved: saved.to_string(), found: found.to_string() });
    }
    Ok(())
}
