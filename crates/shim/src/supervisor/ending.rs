//! How the life of a VM ends, and the record of it.

use std::path::Path;
use std::time::Duration;

use hypeman_record::end::{End, Evidence, Reason, ShutdownReason, VmmExit, end, judge};
use hypeman_record::format::{self, Versioned};
use hypeman_record::names;
use hypeman_record::record::OnReboot;
use hypeman_record::run::{Ended, Run};
use hypeman_vmm::vm::{Vm, VmStatus};
use jiff::Timestamp;

use super::Supervisor;
use crate::policy::Phase;

/// Timeout for the last words of a VMM that has ended to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Supervisor {
    /// How it ended, and whether it is booted again. Enters the phase that follows.
    pub(super) async fn judge(&self, vm: &dyn Vm, exit: VmmExit) -> (End, bool) {
        let told = told_at_last(vm).await;
        let shutdown = match (self.driver.unrunnable(), self.driver.halted()) {
            (true, _) => Some(ShutdownReason::Unrunnable),
            (false, true) => Some(ShutdownReason::GuestHalt),
            (false, false) => told.shutdown,
        };
        let status = hypeman_record::status::read(Path::new(names::STATUS));
        let end = judge(Evidence {
            guest: self.shared.launch.guest,
            status: status.as_ref(),
            shutdown,
            vmm: exit,
            force: self.driver.force(),
        });
        let again = end.reason == Reason::GuestReset
            && self.shared.launch.on_reboot == OnReboot::Restart
            && self.shared.phase() == Phase::Running;
        self.shared.published.send_modify(|published| {
            published.phase = if again { Phase::Booting } else { Phase::Draining };
            published.paused = None;
        });
        (end, again)
    }

    /// Records that it sleeps. When that cannot be, the snapshot tells.
    pub(super) fn record_sleep(&self, run: Run) {
        self.shared.published.send_modify(|published| published.end = Some(asleep()));
        let mut run = Run { end: Some(Ended { at: Timestamp::now(), end: asleep() }), ..run };
        run.envelope.format = Run::FORMAT; // a release that knows no standby is not to boot the VM anew
        if let Err(error) = format::rewrite(Path::new(names::RUN), &run) {
            self.shared.journal.note(format_args!("the standby cannot be recorded: {error}"));
        }
    }

    /// Records the end; on a full disk, as soon as there is room.
    pub(super) async fn record(&mut self, run: Run, end: End) {
        let run = Run { end: Some(Ended { at: Timestamp::now(), end: end.clone() }), ..run };
        self.shared.published.send_modify(|published| {
            published.end.get_or_insert(end);
            published.phase = Phase::Draining;
        });
        while let Err(error) = format::rewrite(Path::new(names::RUN), &run) {
            self.shared.journal.note(format_args!("the end cannot be recorded yet: {error}"));
            let discard = self.shared.discard.clone();
            let wait = tokio::time::timeout(Duration::from_secs(1), discard.cancelled());
            if let Some(Ok(())) = self.driver.meanwhile(wait).await {
                return;
            }
        }
    }
}

/// The end of a run that has none: it goes on when it is restored.
pub(super) fn asleep() -> End {
    end(Reason::Standby, 0, "it was put to standby".to_owned())
}

/// Returns the VMM's last status; complete, if it comes in time.
async fn told_at_last(vm: &dyn Vm) -> VmStatus {
    let mut status = vm.status();
    let _ = tokio::time::timeout(LAST_WORDS, status.wait_for(|status| status.is_last)).await;
    status.borrow().clone()
}
