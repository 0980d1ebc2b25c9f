//! The care for one VM: what the driver has under way for it, what it is to do next, and who waits.

use std::rc::Rc;

use hypeman_record::process::Process;
use hypeman_vmm::process::VmmProcess;
use hypeman_vmm::vm::{Paused, Vm};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::halt::{self, Idleness};
use crate::order::{Error, Result};
use crate::room;
use crate::work::{Kind, Work};

/// The care for a VM from its boot to the end of its VMM.
pub(crate) struct Care {
    pub(crate) vm: Rc<dyn Vm>,
    pub(crate) work: Option<Work>,
    pub(crate) idleness: Option<Idleness>,
    pub(crate) look_at: Instant,
    /// When the power button is pressed next.
    pub(crate) press_at: Option<Instant>,
    /// Whether the guest was up when it was pressed last: else nobody heard it.
    pub(crate) was_up: bool,
    /// Whether it was pressed for nothing, and is pressed again when the guest is up.
    pub(crate) waits_for_guest: bool,
    /// Those who wait until it was pressed.
    pub(crate) pressers: Vec<oneshot::Sender<Result<()>>>,
    pub(crate) attempts: room::Attempts,
    /// When to let a VM go on that waits for room on the disk.
    pub(crate) resume_at: Option<Instant>,
    /// Whether it is paused until someone resumes it.
    pub(crate) is_held: bool,
    /// Callers that wait until it is paused or resumed.
    pub(crate) switchers: Vec<oneshot::Sender<Result<()>>>,
}

impl Care {
    pub(crate) fn new(vm: Rc<dyn Vm>, process: &VmmProcess) -> Care {
        let pid = process.pid().as_raw_nonzero().get().unsigned_abs();
        let is_held = vm.status().borrow().paused == Some(Paused::Requested);
        Care {
            vm,
            work: None,
            idleness: Process::find(pid).map(Idleness::of),
            look_at: Instant::now() + halt::LOOK,
            press_at: None,
            was_up: false,
            waits_for_guest: false,
            pressers: Vec::new(),
            attempts: room::Attempts::new(),
            resume_at: None,
            is_held,
            switchers: Vec::new(),
        }
    }

    /// Pauses the VM, and answers when it is paused.
    pub(crate) fn hold(&mut self, reply: oneshot::Sender<Result<()>>) {
        self.resume_at = None;
        if self.is_held && !self.is_switching() {
            let _ = reply.send(Ok(())); // whoever asked may have hung up
        } else {
            self.switchers.push(reply);
            self.switch(Work::hold(&self.vm));
        }
    }

    /// Lets the VM go on, and answers when it does.
    pub(crate) fn release(&mut self, reply: oneshot::Sender<Result<()>>) {
        if !self.is_held && !self.is_switching() && self.vm.status().borrow().paused.is_none() {
            let _ = reply.send(Ok(()));
        } else {
            self.switchers.push(reply);
            self.switch(Work::release(&self.vm));
        }
    }

    /// Begins to pause or resume, in place of what is under way. A power button that was being
    /// pressed is pressed when that is done.
    pub(crate) fn switch(&mut self, work: Work) {
        if self.work.as_ref().is_some_and(|work| work.kind == Kind::Press) {
            self.press_at = Some(Instant::now());
        }
        self.work = Some(work);
    }

    /// Whether a pause is ours: asked for now, or found when the VM was taken over.
    pub(crate) fn was_asked_to_pause(&self) -> bool {
        self.is_held || self.is_switching()
    }

    pub(crate) fn is_switching(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.kind, Kind::Hold | Kind::Release))
    }

    pub(crate) fn next_wake(&self, deadline: Option<Instant>) -> Instant {
        let times = [deadline, self.press_at, self.resume_at];
        times.into_iter().flatten().fold(self.look_at, Instant::min)
    }
}

/// Answers those who wait for the same; each is told what went wrong, if something has.
pub(crate) fn answer(askers: &mut Vec<oneshot::Sender<Result<()>>>, done: Result<()>) {
    for asker in askers.drain(..) {
        let _ = asker.send(done.as_ref().copied().map_err(Error::again)); // it may have hung up
    }
}
