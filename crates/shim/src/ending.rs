//! The end of a VM: what to call it, and what to leave.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use hypeman_files::Lock;
use hypeman_record::end::{self, End, Evidence, VmmExit};
use hypeman_record::names;
use hypeman_record::status;
use hypeman_vmm::hypervisor::ShutdownReason;

use crate::error::{Result, StartContext};
use crate::shared::Shared;

/// How the VM ended, by all that is known after its VMM is gone.
pub(crate) async fn judge(shared: &Shared, exit: &std::io::Result<ExitStatus>) -> End {
    let vmm = match exit {
        Ok(status) => status.signal().map_or(VmmExit::Code(status.code().unwrap_or(-1)), VmmExit::Signal),
        Err(_) => VmmExit::Code(-1),
    };
    let status = status::read(Path::new(names::STATUS));
    let told = shared.vm.lock().await.shutdown_reason().await;
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
