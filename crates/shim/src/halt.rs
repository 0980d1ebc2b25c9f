//! A guest that has halted its CPUs (`systemctl halt`) would leave its VM running for ever on nothing.

use std::rc::Rc;
use std::time::Duration;

use crate::control;
use crate::shared::Shared;

/// How often a VM is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// CPU time in clock ticks that a VMM whose guest does nothing may use between two looks.
const QUIET: u64 = 1;

/// Ends the VM of a guest that will never run again. Comes back when it has, or never.
pub(crate) async fn end_when_halted(shared: Rc<Shared>) {
    let mut used = shared.run.vmm.cpu_ticks();
    loop {
        tokio::time::sleep(LOOK).await;
        let before = std::mem::replace(&mut used, shared.run.vmm.cpu_ticks());
        // The VMM is only asked about a guest that seems to do nothing.
        if used.saturating_sub(before) <= QUIET && control::is_halted(&shared).await {
            shared.halted.set(true);
            control::end_vmm(&shared, "the guest has halted its CPUs").await;
            return;
        }
    }
}
