//! The kernel's command line.

use hypeman_record::record::Record;
use hypeman_record::spec::{Accelerator, HypervisorKind};

/// For our init: the console on the serial line, a panic that resets (which ends the VM), and
/// silence unless asked otherwise. Below 0 not even emergencies are shown, as each power off is one
/// to Linux; but a kernel that dies is, for then it raises the level unless that is 0
/// (`console_verbose` in include/linux/printk.h).
const QUIET: &str = "console=ttyS0 rdinit=/init panic=-1 quiet loglevel=-1";
const LOUD: &str = "console=ttyS0 rdinit=/init panic=-1 loglevel=7";

/// The command line for a record: ours and then the user's for an image, the user's alone for a
/// bare kernel.
pub(crate) fn of(record: &Record, accelerator: Accelerator) -> String {
    let settings = &record.settings;
    if record.image.is_none() {
        return settings.cmdline.clone();
    }
    let mut words = ours(settings.show_boot, settings.hypervisor, accelerator);
    words.push(settings.cmdline.clone());
    words.join(" ").trim_end().to_owned()
}

fn ours(show_boot: bool, hypervisor: HypervisorKind, accelerator: Accelerator) -> Vec<String> {
    let mut words = vec![if show_boot { LOUD.to_owned() } else { QUIET.to_owned() }];
    words.extend(hypeman_vmm::hypervisor(hypervisor).kernel_words(accelerator));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_tcg_linux_is_told_what_it_would_measure_wrong_on_a_busy_host() {
        let words = |hypervisor, accelerator| ours(false, hypervisor, accelerator).join(" ");
        let microvm = words(HypervisorKind::QemuMicrovm, Accelerator::Tcg);
        assert!(microvm.contains(" no_timer_check") && microvm.contains(" tsc_early_khz="), "{microvm}");
        assert!(words(HypervisorKind::Qemu, Accelerator::Tcg).contains(" no_timer_check"));
        assert!(!words(HypervisorKind::Qemu, Accelerator::Kvm).contains("no_timer_check"));
    }

    #[test]
    fn on_a_microvm_linux_is_told_how_to_reboot() {
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            let words = |hypervisor| ours(false, hypervisor, accelerator).join(" ");
            assert!(words(HypervisorKind::QemuMicrovm).contains(" reboot=t"));
            assert!(!words(HypervisorKind::Qemu).contains("reboot="));
        }
    }
}
