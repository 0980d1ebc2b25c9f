//! How a VM's instructions are executed on this host: decided at each start, by trying.

use std::path::{Path, PathBuf};

use hypeman_record::record::Record;
use hypeman_vmm::kvm::{KvmState, probe_kvm};
use hypeman_vmm::qemu::{CpuFeatures, cpu_features};
use hypeman_vmm::spec::{Accelerator, HypervisorKind};

use crate::error::{Error, Result};

/// What was decided for one start.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) accelerator: Accelerator,
    /// CPU features that the guest does not get.
    pub(crate) cpu_left_out: Vec<String>,
    /// What the user should know of it.
    pub(crate) note: Option<String>,
}

impl Decision {
    fn new(accelerator: Accelerator, note: Option<String>) -> Decision {
        Decision { accelerator, cpu_left_out: Vec::new(), note }
    }

    fn kvm_with(features: CpuFeatures) -> Decision {
        let note = features.why.map(|why| {
            format!("the guest's CPU is without {}, which KVM refuses: {why}", features.left_out.join(", "))
        });
        Decision { cpu_left_out: features.left_out, ..Decision::new(Accelerator::Kvm, note) }
    }
}

/// Where it is remembered on what CPU features QEMU's KVM works.
#[must_use]
pub fn memory(data_dir: &Path) -> PathBuf {
    data_dir.join("qemu-kvm.json")
}

/// The accelerator, and what of it was not the user's choice.
pub(crate) fn decide(record: &Record, data_dir: &Path) -> Result<Decision> {
    let settings = &record.settings;
    let no_kvm =
        |why: String| Error::NoKvm { name: record.name.clone(), hypervisor: settings.hypervisor, why };
    match (settings.accelerator, settings.hypervisor) {
        (_, HypervisorKind::CloudHypervisor) => {
            require_kvm(record)?;
            Ok(Decision::new(Accelerator::Kvm, None))
        }
        (Some(Accelerator::Tcg), _) => Ok(Decision::new(Accelerator::Tcg, None)),
        (Some(Accelerator::Kvm), _) => {
            let features = qemu_features(record, data_dir);
            Ok(Decision::kvm_with(features.map_err(|error| no_kvm(error.to_string()))?))
        }
        (None, HypervisorKind::Qemu | HypervisorKind::QemuMicrovm) => Ok(match probe_kvm() {
            KvmState::Works => match qemu_features(record, data_dir) {
                Ok(features) => Decision::kvm_with(features),
                Err(error) => on_tcg(&error.to_string()),
            },
            KvmState::Missing(why) | KvmState::Broken(why) => on_tcg(&why),
        }),
    }
}

fn qemu_features(record: &Record, data_dir: &Path) -> Result<CpuFeatures> {
    let settings = &record.settings;
    let program = hypeman_vmm::hypervisor(settings.hypervisor).discover(settings.program.as_deref())?;
    Ok(cpu_features(&program, &memory(data_dir))?)
}

fn on_tcg(why: &str) -> Decision {
    let note = format!("running on TCG, which is slow, because KVM does not work: {why}");
    Decision::new(Accelerator::Tcg, Some(note))
}

/// Cloud Hypervisor has nothing but KVM. Where that is there and broken, a kernel that is not Linux may still run.
fn require_kvm(record: &Record) -> Result<()> {
    let why = match probe_kvm() {
        KvmState::Works => return Ok(()),
        KvmState::Broken(_) if record.image.is_none() => return Ok(()),
        KvmState::Missing(why) => format!("there is no KVM here: {why}"),
        KvmState::Broken(why) => format!("KVM is broken here, so no Linux runs on it: {why}"),
    };
    Err(Error::NoKvm { name: record.name.clone(), hypervisor: record.settings.hypervisor, why })
}
