//! A guest that has halted its CPUs (`systemctl halt`) would leave its VM running for ever on
//! nothing.

use std::time::Duration;

use hypeman_record::process::Process;

/// How often a VM is looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// CPU time in clock ticks that a VMM whose guest does nothing may use between two looks, a
/// twentieth of a CPU: its timers go on, and on a busy host each costs ten times what it costs
/// else.
const QUIET: u64 = 25;

/// How busy a VMM is. Only one that does next to nothing is asked whether its guest has halted.
#[derive(Debug)]
pub(crate) struct Idleness {
    vmm: Process,
    used: u64,
}

impl Idleness {
    pub(crate) fn of(vmm: Process) -> Idleness {
        Idleness { used: vmm.cpu_ticks(), vmm }
    }

    /// Whether it has done next to nothing since it was last looked at.
    pub(crate) fn look(&mut self) -> bool {
        let before = std::mem::replace(&mut self.used, self.vmm.cpu_ticks());
        self.used.saturating_sub(before) <= QUIET
    }
}
