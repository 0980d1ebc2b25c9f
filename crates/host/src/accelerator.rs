//! How a VM's instructions are executed on this host: decided at each start, by trying.

use hypeman_record::program::Program;
use hypeman_record::record::{KernelUse, Record};
use hypeman_record::spec::{Accelerator, CpuFeatures};
use hypeman_vmm::findings::Findings;
use hypeman_vmm::kvm::{KvmState, probe_kvm};

use crate::error::{Error, Result};

/// Accelerator of one start.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) accelerator: Accelerator,
    /// CPU features that the guest does not get.
    pub(crate) cpu_left_out: Vec<String>,
    /// Note for the user.
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

/// The accelerator for `program`, and what of it was not the user's choice.
pub(crate) fn decide(record: &Record, program: &Program, findings: &Findings) -> Result<Decision> {
    let settings = &record.settings;
    let driver = hypeman_vmm::hypervisor(settings.hypervisor);
    let no_kvm =
        |why: String| Error::NoKvm { name: record.name.clone(), hypervisor: settings.hypervisor, why };
    let features = || driver.cpu_features(program, findings);
    if !driver.abilities().runs_on(Accelerator::Tcg) {
        require_kvm(record, findings).map_err(no_kvm)?;
        return Ok(Decision::kvm_with(features()?));
    }
    match settings.accelerator {
        Some(Accelerator::Tcg) => Ok(Decision::new(Accelerator::Tcg, None)),
        Some(Accelerator::Kvm) => {
            require_kvm(record, findings).map_err(no_kvm)?;
            Ok(Decision::kvm_with(features().map_err(|error| no_kvm(error.to_string()))?))
        }
        None => Ok(match probe_kvm(findings) {
            KvmState::Works => match features() {
                Ok(features) => Decision::kvm_with(features),
                Err(error) => on_tcg(&error.to_string()),
            },
            KvmState::Missing(why) | KvmState::Broken(why) => on_tcg(&why),
        }),
    }
}

fn on_tcg(why: &str) -> Decision {
    let note = format!("running on TCG, which is slow, because KVM does not work: {why}");
    Decision::new(Accelerator::Tcg, Some(note))
}

/// Requires KVM. If KVM is there and broken, a kernel of the user's own that is not Linux may still
/// run.
fn require_kvm(record: &Record, findings: &Findings) -> std::result::Result<(), String> {
    match probe_kvm(findings) {
        KvmState::Works => Ok(()),
        KvmState::Broken(_) if matches!(record.kernel, KernelUse::Own { .. }) => Ok(()),
        KvmState::Missing(why) => Err(format!("there is no KVM here: {why}")),
        KvmState::Broken(why) => Err(format!("KVM is broken here, so no Linux runs on it: {why}")),
    }
}
