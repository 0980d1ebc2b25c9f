//! The one task that owns a VM: it takes orders from a queue, hears what the VMM tells, and
//! publishes the state.
//!
//! It never waits for one thing alone. What is asked of the VMM is a piece of work with a limit,
//! which is dropped when something more important comes: an order to end the VM goes before all
//! others ([`crate::policy`]).

use std::collections::VecDeque;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use hypeman_record::end::{Force, VmmExit};
use hypeman_record::launch::Guest;
use hypeman_vmm::process::VmmProcess;
use hypeman_vmm::vm::{Paused, Vm, VmStatus};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::care::{Care, answer};
use crate::halt::{self, Idleness};
use crate::order::{Asked, Error, Result};
use crate::policy::{self, Order, Phase, Verdict};
use crate::shared::{Shared, explain};
use crate::work::{Kind, Work};
use crate::{guest, room};

/// How often a guest that boots is looked at, whether it can hear the power button by now.
const LOOK: Duration = Duration::from_millis(50);

/// How often an init system of the guest's own is pressed, of which we do not know when it begins
/// to listen.
const PRESS_AGAIN: Duration = Duration::from_secs(2);

/// Note about a pause that is not ours.
const FOREIGN_PAUSE: &str = "the VM is paused, which hypeman has not asked for: somebody else speaks with its VMM; `hypeman resume` lets \
                             it go on";

/// Maximum time that a guest may be given to end; more is as much as for ever.
const LONGEST_STOP: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The driver of a VM, over all its boots.
pub(crate) struct Driver {
    shared: Rc<Shared>,
    orders: mpsc::Receiver<Asked>,
    /// Orders that wait until the VM has been taken over.
    later: VecDeque<Asked>,
    /// Why we have ended the VM by force, if we have.
    force: Option<Force>,
    /// Whether its guest had halted its CPUs.
    halted: bool,
    /// Whether its VMM could not go on with it.
    unrunnable: bool,
    /// Whether the guest is to be told that it has slept.
    wakes: bool,
    /// Why the driver is to return.
    leaves: Option<Left>,
    /// When a guest that was asked to end is ended by force.
    deadline: Option<Instant>,
}

/// Why the driver does not watch over a VM any more.
#[derive(Debug)]
pub(crate) enum Left {
    /// Its VMM has ended.
    Ended(VmmExit),
    /// It is to be handed over.
    ForHandOver,
    /// Its snapshot is to be written; who is to be told what became of it.
    ForStandby(oneshot::Sender<Result<()>>),
}

impl Driver {
    pub(crate) fn new(shared: Rc<Shared>, orders: mpsc::Receiver<Asked>) -> Driver {
        Driver {
            shared,
            orders,
            later: VecDeque::new(),
            force: None,
            halted: false,
            unrunnable: false,
            wakes: false,
            leaves: None,
            deadline: None,
        }
    }

    /// The guest goes on after a sleep, and is told so.
    pub(crate) fn expect_sleeper(&mut self) {
        self.wakes = true;
    }

    /// Why we have ended the VM by force, if we have.
    pub(crate) fn force(&self) -> Option<Force> {
        self.force
    }

    /// Whether the guest had halted its CPUs.
    pub(crate) fn halted(&self) -> bool {
        self.halted
    }

    /// Whether the VMM could not go on with the guest.
    pub(crate) fn unrunnable(&self) -> bool {
        self.unrunnable
    }

    /// Takes orders while something else is done for which no running VM is needed; `None` when
    /// that is to be given up.
    pub(crate) async fn meanwhile<T>(&mut self, doing: impl Future<Output = T>) -> Option<T> {
        let mut doing = std::pin::pin!(doing);
        loop {
            tokio::select! {
                biased;
                done = &mut doing => return Some(done),
                asked = self.next() => {
                    let before = self.shared.phase();
                    self.take(asked, None);
                    let now = self.shared.phase();
                    let is_given_up = before < Phase::Ending && now >= Phase::Ending;
                    if is_given_up || (before == Phase::Suspending && now > before) {
                        return None;
                    }
                }
            }
        }
    }

    /// Owns a VM whose guest runs, until its VMM has ended, or the VM is to be left. Whatever goes
    /// wrong in here, the VMM is waited for and can be ended.
    pub(crate) async fn watch_over(&mut self, vm: Rc<dyn Vm>, process: &VmmProcess) -> Left {
        // One that was asked to end while its snapshot was being written is Stopping already.
        if self.shared.phase() <= Phase::Suspending {
            self.shared.enter(Phase::Running);
        }
        let watched = AssertUnwindSafe(self.care_for(vm, process)).catch_unwind().await;
        let Ok(left) = watched else {
            self.shared.journal.note("a fault of ours: the VM can only be ended by force from here on");
            return Left::Ended(self.hold_on(process).await);
        };
        left
    }

    async fn care_for(&mut self, vm: Rc<dyn Vm>, process: &VmmProcess) -> Left {
        let mut status = vm.status();
        let mut care = Care::new(vm, process);
        care.press_at = self.deadline.map(|_| Instant::now());
        self.hear(&mut care, &status.borrow_and_update());
        if self.force.is_some() {
            care.work = Some(Work::quit(&care.vm)); // the order came while nobody drove the VM
        }
        if std::mem::take(&mut self.wakes) {
            guest::has_slept(&self.shared, &care.vm);
        }
        loop {
            if let Some(left) = self.leaves.take() {
                return left;
            }
            let wake = care.next_wake(self.deadline);
            tokio::select! {
                biased;
                exit = process.ended() => return Left::Ended(exit),
                asked = self.next() => self.take(asked, Some(&mut care)),
                () = changed(&mut status) => self.hear(&mut care, &status.borrow_and_update()),
                done = Work::done(&mut care.work) => self.finish(&mut care, done, process),
                () = sleep_until(wake) => self.wake(&mut care),
            }
        }
    }

    /// Without a connection to the VMM: waits for its end, and ends it when that is asked for.
    async fn hold_on(&mut self, process: &VmmProcess) -> VmmExit {
        loop {
            if self.shared.phase() >= Phase::Stopping {
                self.force.get_or_insert(Force::Asked);
                let _ = process.kill(); // it may have ended already
            }
            tokio::select! {
                biased;
                exit = process.ended() => return exit,
                asked = self.next() => self.take(asked, None),
            }
        }
    }

    /// The next order; one will never come when nobody is left to give it.
    async fn next(&mut self) -> Asked {
        if self.shared.phase() != Phase::Adopting
            && let Some(asked) = self.later.pop_front()
        {
            return asked;
        }
        match self.orders.recv().await {
            Some(asked) => asked,
            None => pending().await,
        }
    }

    /// Decides about an order, and begins to carry it out.
    fn take(&mut self, asked: Asked, care: Option<&mut Care>) {
        let before = self.shared.phase();
        let answer = match policy::admit(before, asked.order) {
            Verdict::NothingToDo => Ok(()),
            Verdict::Denied(denial) => Err(denial.into()),
            Verdict::Later => return self.later.push_back(asked),
            Verdict::Admit => {
                let phase = policy::after(before, asked.order);
                if phase != before {
                    self.shared.enter(phase);
                }
                return self.begin(asked, care, before);
            }
        };
        let _ = asked.reply.send(answer); // whoever asked may have hung up
    }

    fn begin(&mut self, asked: Asked, care: Option<&mut Care>, before: Phase) {
        let answer = match (asked.order, care) {
            (Order::PowerButton, Some(care)) => {
                care.press_at = Some(Instant::now());
                return care.pressers.push(asked.reply);
            }
            (Order::Signal(signal), Some(care)) => {
                return guest::signal(self.shared.clone(), care.vm.clone(), signal, asked.reply);
            }
            (Order::Pause, Some(care)) => return care.hold(asked.reply),
            (Order::Resume, Some(care)) => return care.release(asked.reply),
            (Order::Standby, Some(_)) => {
                self.leaves = Some(Left::ForStandby(asked.reply));
                return;
            }
            (Order::HandOver, Some(_)) => {
                self.leaves = Some(Left::ForHandOver);
                Ok(())
            }
            (Order::PowerButton | Order::Signal(_) | Order::Pause, None)
            | (Order::Resume | Order::Standby | Order::HandOver, None) => Err(Error::Silent),
            (Order::Stop(timeout), care) => {
                self.stop(timeout, care, before);
                Ok(())
            }
            (Order::Kill, care) => {
                self.end(care, Some(Force::Asked), "asked to kill the VM: ending it by force");
                Ok(())
            }
            (Order::Discard, care) => {
                self.shared.discard.cancel();
                if before < Phase::Ending {
                    self.end(care, Some(Force::Asked), "asked to discard the VM: ending it by force");
                }
                Ok(())
            }
        };
        let _ = asked.reply.send(answer);
    }

    /// Of several who ask the guest to end, the most impatient one counts.
    fn stop(&mut self, timeout: Duration, care: Option<&mut Care>, before: Phase) {
        let now = Instant::now();
        let deadline = now + timeout.min(LONGEST_STOP);
        let deadline = self.deadline.map_or(deadline, |earlier| earlier.min(deadline));
        let Some(care) = care else {
            if before == Phase::Booting {
                return self.end(None, Some(Force::Asked), "asked to stop the VM, whose guest does not run");
            }
            // It hears of it when it has been taken over, or when it goes on because its snapshot
            // is given up.
            self.deadline = Some(deadline);
            return;
        };
        self.deadline = Some(deadline);
        if care.is_held {
            care.work = Some(Work::release(&care.vm)); // one that stands still cannot hear
        }
        if before < Phase::Stopping {
            care.press_at = Some(now);
        }
    }

    /// Ends the VMM: lets it quit, and kills it when it does not.
    fn end(&mut self, care: Option<&mut Care>, force: Option<Force>, why: &str) {
        self.shared.journal.note(why);
        self.shared.enter(self.shared.phase().max(Phase::Ending));
        self.force = self.force.or(force);
        self.deadline = None;
        if let Some(care) = care {
            care.press_at = None;
            care.resume_at = None;
            care.work = Some(Work::quit(&care.vm));
        }
    }

    /// Publishes what the VMM has told.
    fn hear(&mut self, care: &mut Care, status: &VmStatus) {
        let before = self.shared.published.borrow().paused.clone();
        if before == status.paused {
            return;
        }
        match status.paused.as_ref().map(explain) {
            Some(Some(why)) => self.shared.journal.note(format_args!("the VM is paused: {why}")),
            Some(None) if care.was_asked_to_pause() => self.shared.journal.note("the VM is paused"),
            Some(None) if care.work.is_none() => care.work = Some(Work::examine(&care.vm)),
            Some(None) => self.shared.journal.note(FOREIGN_PAUSE),
            None => self.shared.journal.note("the VM goes on"),
        }
        let now = Instant::now();
        let waits_for_room = status.paused == Some(Paused::DiskFull) && !care.is_held;
        care.resume_at = waits_for_room.then(|| care.attempts.next(now));
        self.shared.published.send_modify(|published| published.paused = status.paused.clone());
    }

    /// Does what is due.
    fn wake(&mut self, care: &mut Care) {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.deadline) {
            self.end(
                Some(care),
                Some(Force::TimedOut),
                "the guest has not ended in time: ending it by force",
            );
        } else if due(care.press_at) {
            self.press(care, now);
        } else if due(care.resume_at) {
            if room::is_there(".".as_ref()) && care.work.is_none() {
                care.attempts.made(now);
                care.work = Some(Work::resume(&care.vm));
            }
            care.resume_at = Some(care.attempts.next(now));
        } else if due(Some(care.look_at)) {
            care.look_at = now + halt::LOOK;
            if care.idleness.as_mut().is_some_and(Idleness::look) && care.work.is_none() {
                care.work = Some(Work::look(&care.vm));
            }
        }
    }

    /// Presses the power button, unless that has been done and the guest cannot have heard it yet.
    fn press(&mut self, care: &mut Care, now: Instant) {
        let is_up = self.shared.is_up();
        let waits_for_guest = care.waits_for_guest && !is_up && care.pressers.is_empty();
        if waits_for_guest || care.is_switching() {
            care.press_at = Some(now + LOOK);
            return;
        }
        care.was_up = is_up;
        care.waits_for_guest = false;
        care.press_at = None;
        // `stop --power-button` presses the button; else the agent ends the guest better.
        let asks = care.pressers.is_empty() && self.shared.agent.is_there();
        let how = if asks { "asking the guest, by its agent, to end" } else { "pressing the power button" };
        self.shared.journal.note(how);
        care.work = Some(if asks { Work::ask(&care.vm, &self.shared) } else { Work::press(&care.vm) });
    }

    /// Draws the conclusion from a piece of work.
    fn finish(&mut self, care: &mut Care, done: Result<bool>, process: &VmmProcess) {
        let Some(work) = care.work.take() else { return };
        match (work.kind, done) {
            (Kind::Press, done) => {
                if let Err(error) = &done {
                    self.shared.journal.note(format_args!("the power button failed: {error}"));
                }
                self.pressed(care, done.map(drop));
            }
            (Kind::Quit, _) => {
                self.shared.journal.note("the VMM does not quit: killing its process");
                if let Err(error) = process.kill() {
                    self.shared.journal.note(format_args!("cannot kill the VMM: {error}"));
                }
            }
            (Kind::Resume, Err(error)) => {
                self.shared.journal.note(format_args!("the VM cannot go on: {error}"));
            }
            (Kind::Look, Ok(true)) => {
                self.halted = true;
                self.end(Some(care), None, "the guest has halted its CPUs");
            }
            (Kind::Hold | Kind::Release, done) => {
                if done.is_ok() {
                    care.is_held = work.kind == Kind::Hold;
                }
                answer(&mut care.switchers, done.map(drop));
            }
            (Kind::Examine, Ok(true)) => {
                self.unrunnable = true;
                self.end(Some(care), None, "the VMM cannot go on with the guest; vmm.log tells why");
            }
            (Kind::Examine, _) => self.shared.journal.note(FOREIGN_PAUSE),
            (Kind::Resume | Kind::Look, _) => {}
        }
    }

    /// Answers those who wanted the power button pressed, and decides when it is pressed again for
    /// those who want an end.
    fn pressed(&self, care: &mut Care, done: Result<()>) {
        answer(&mut care.pressers, done);
        if self.shared.phase() != Phase::Stopping {
            return;
        }
        let now = Instant::now();
        care.waits_for_guest = !care.was_up;
        care.press_at = match (care.was_up, self.shared.launch.guest) {
            (true, Guest::Systemd) => Some(now + PRESS_AGAIN),
            (true, Guest::Exec | Guest::Bare) => None,
            (false, _) => Some(now + LOOK),
        };
    }
}

/// Waits until the VMM tells something new.
async fn changed(status: &mut tokio::sync::watch::Receiver<VmStatus>) {
    if status.changed().await.is_err() {
        pending().await
    }
}

#[cfg(test)]
pub(crate) mod tests;
