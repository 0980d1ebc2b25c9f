//! The end of a VM: what to call it, and what to leave.

use std::path::Path;

use hypeman_files::Lock;
use hypeman_record::end::{self, End, Evidence};
use hypeman_record::names;
use hypeman_record::status;
use hypeman_vmm::process::VmmExit;
use hypeman_vmm::vm::ShutdownReason;

use crate::error::{Result, StartContext};
use crate::shared::Shared;

/// How the VM ended, by all that is known after its VMM is gone.
pub(crate) async fn judge(shared: &Shared, vmm: VmmExit) -> End {
    let status = status::read(Path::new(names::STATUS));
    let mut status_of_vm = shared.vm.lock().await.status();
    let told = status_of_vm.wait_for(|status| status.is_last).await.ok().and_then(|status| status.shutdown);
    let shutdown = if shared.halted.get() { Some(ShutdownReason::GuestHalt) } else { told };
    end::judge(Evidence {
        guest: shared.launch.guest,
        status: status.as_ref(),
        shutdown,
        vmm,
        forced: shared.forced.get(),
    })
}

/// Removes the instance that was to be removed at its end.
pub(crate) fn remove(alive: &Lock) -> Result<()> {
    let directory = std::env::current_dir().start("find the instance's directory")?;
    hypeman_files::remove_directory(&directory, alive).start("remove the instance")
}
