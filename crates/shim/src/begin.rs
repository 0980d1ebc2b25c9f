//! How a guest comes to run: it boots, it goes on from its snapshot, or it goes on as the last shim
//! has left it.

use std::path::Path;
use std::rc::Rc;

use hypeman_snapshot::standby;
use hypeman_vmm::vm::Vm;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::error::{Result, told};

/// Lets it run its first instruction; or, when it was restored, go on, once its snapshot is known
/// to be what was written. From then on the snapshot cannot be used again.
pub(crate) async fn begin(
    vm: Rc<dyn Vm>,
    verified: Option<JoinHandle<hypeman_snapshot::Result<()>>>,
) -> Result<()> {
    let Some(verified) = verified else { return vm.boot().await.map_err(told) };
    verified.await.map_err(told)?.map_err(told)?;
    standby::consume(Path::new(".")).map_err(told)?;
    vm.boot().await.map_err(told)?;
    // Aside, for large files take their time. What stays is removed before the next snapshot is
    // made.
    drop(spawn_blocking(|| standby::forget(Path::new("."))));
    Ok(())
}

/// Goes on with a VM that was taken over, whose instance lies in `directory`. One whose shim was
/// killed while it was being put to standby, or let go on, goes on.
pub(crate) async fn go_on_again(vm: Rc<dyn Vm>, directory: &Path) -> Result<()> {
    let status = vm.status().borrow().clone();
    if !status.booted {
        return Err(told("its shim was killed before its guest ran"));
    }
    if standby::is_whole(directory) {
        return Err(told("its snapshot is whole"));
    }
    if standby::is_begun(directory) || standby::is_used(directory) {
        vm.abandon_snapshot().await.map_err(told)?;
        vm.resume().await.map_err(told)?;
        // Last, for if this shim is killed too, it tells the next one why the VM is paused. What
        // stays is removed before the next snapshot is made.
        let _ = standby::withdraw(directory);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::driver::tests::TestVm;

    #[test]
    fn whoever_takes_a_vm_over_at_any_moment_knows_that_it_is_to_go_on() {
        for moment in 0.. {
            let scratch = tempfile::tempdir().unwrap();
            standby::begin(scratch.path()).unwrap();
            let vm = Rc::new(TestVm::booted());
            let mut taken_over = Box::pin(go_on_again(vm.clone(), scratch.path()));
            let mut context = Context::from_waker(Waker::noop());
            // Killed after so many of its steps.
            let is_done = (0..moment).any(|_| taken_over.as_mut().poll(&mut context).is_ready());
            drop(taken_over);
            if is_done {
                assert_eq!(*vm.asked(), ["abandon", "resume"]);
                assert!(!standby::is_begun(scratch.path()));
                return;
            }
            assert!(standby::is_begun(scratch.path()), "after {:?}", vm.asked());
        }
    }
}
