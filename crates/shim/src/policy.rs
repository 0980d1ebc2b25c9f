//! Orders, and which of them a VM takes in which phase of its life. Pure: the driver asks, and does
//! what comes out.
//!
//! ```text
//!            ┌────────────── the guest rebooted, and is to be booted again ──────────────┐
//!            v                                                                           │
//!        Booting ──────> Running ── stop ──> Stopping ── time is up ──> Ending           │
//!            │             │  │                 │  │                       │             │
//!            │             │  └───── kill ──────┼──┴───── kill ──────────> │             │
//!            │             │                    │                          │             │
//!            └─────────────┴────────────────────┴── the VMM has ended <────┘             │
//!                                                      │       └─────────────────────────┘
//!                                                      v
//!                                                  Draining ── all is written ──> Ended
//! ```
//!
//! From Running a shim may also leave, and hand its VM over to another, which begins in Adopting. Its guest runs meanwhile, so a `stop` leads
//! to Stopping from there too; what else is asked for waits until the VMM can be spoken with. `standby` leads to Suspending, and from there to Draining
//! when the snapshot is whole, or back to Running when it failed; `stop` gives it up, and goes on to Stopping. `kill` and `discard`
//! lead to Ending from wherever there is a VMM, whatever else is under way. A VM that is paused is Running or Stopping: its pause
//! is told beside its phase.

use std::time::Duration;

/// A phase of a VM's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The guest runs, and its VMM is being taken over from a shim that has gone.
    Adopting,
    /// The VMM is started and the VM made; the guest does not run yet.
    Booting,
    /// The guest runs.
    Running,
    /// It is paused, and its snapshot is being written.
    Suspending,
    /// It was asked to end, and has some time for it.
    Stopping,
    /// The VMM is being ended.
    Ending,
    /// The VMM has ended; what it left is being written.
    Draining,
    /// All is on disk.
    Ended,
}

/// An order to the driver of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Press the power button.
    PowerButton,
    /// Send the program in the guest a signal.
    Signal(i32),
    /// Ask the guest to end, and end it by force when it has not ended in time.
    Stop(Duration),
    /// End the VMM.
    Kill,
    /// End the VMM, and give up what cannot be written.
    Discard,
    /// Stop the vCPUs.
    Pause,
    /// Let the vCPUs go on.
    Resume,
    /// Write its snapshot, and end the VMM.
    Standby,
    /// Leave the VM as it is, to another shim.
    HandOver,
}

/// Whether it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Admit,
    /// It is decided when the VM has been taken over.
    Later,
    /// It need not be: what it is for holds already, or comes by itself.
    NothingToDo,
    /// It cannot be.
    Denied(Denial),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("the guest is not running yet")]
    NotYet,
    #[error("the VM is going to standby")]
    Suspending,
    #[error("the VM is ending")]
    TooLate,
}

/// Decides.
pub(crate) fn admit(phase: Phase, order: Order) -> Verdict {
    use Verdict::{Admit, Denied, Later, NothingToDo};
    match (phase, order) {
        (
            Phase::Adopting | Phase::Booting | Phase::Suspending,
            Order::Stop(_) | Order::Kill | Order::Discard,
        ) => Admit,
        (Phase::Adopting, _) => Later,
        (Phase::Booting, _) => Denied(Denial::NotYet),
        // The client that asked for the end waits for this shim's answer, and for a running guest.
        (Phase::Stopping, Order::HandOver | Order::Pause | Order::Standby) => Denied(Denial::TooLate),
        (Phase::Suspending, _) => Denied(Denial::Suspending),
        (Phase::Running | Phase::Stopping, _) => Admit,
        (
            Phase::Ending | Phase::Draining | Phase::Ended,
            Order::Signal(_) | Order::HandOver | Order::Pause | Order::Resume | Order::Standby,
        ) => Denied(Denial::TooLate),
        // Also of one that is being ended already, what cannot be written is given up.
        (Phase::Ending | Phase::Draining, Order::Discard) => Admit,
        (Phase::Ending | Phase::Draining | Phase::Ended, _) => NothingToDo,
    }
}

/// The phase after an order that was admitted.
pub(crate) fn after(phase: Phase, order: Order) -> Phase {
    match order {
        Order::PowerButton | Order::Signal(_) | Order::HandOver | Order::Pause | Order::Resume => phase,
        Order::Standby => phase.max(Phase::Suspending),
        // No guest runs that could be asked.
        Order::Stop(_) if phase == Phase::Booting => Phase::Ending,
        Order::Stop(_) => phase.max(Phase::Stopping),
        Order::Kill | Order::Discard => phase.max(Phase::Ending),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PHASES: [Phase; 8] = [
        Phase::Adopting,
        Phase::Booting,
        Phase::Running,
        Phase::Suspending,
        Phase::Stopping,
        Phase::Ending,
        Phase::Draining,
        Phase::Ended,
    ];
    const ORDERS: [Order; 9] = [
        Order::PowerButton,
        Order::Signal(15),
        Order::Stop(Duration::ZERO),
        Order::Kill,
        Order::Discard,
        Order::Pause,
        Order::Resume,
        Order::Standby,
        Order::HandOver,
    ];

    #[test]
    fn an_end_is_never_denied() {
        for phase in PHASES {
            for order in [Order::Stop(Duration::ZERO), Order::Kill, Order::Discard] {
                assert!(!matches!(admit(phase, order), Verdict::Denied(_)), "{order:?} while {phase:?}");
            }
        }
    }

    #[test]
    fn a_guest_that_runs_is_asked_to_end_before_it_is_ended() {
        for phase in [Phase::Adopting, Phase::Running, Phase::Suspending] {
            assert_eq!(after(phase, Order::Stop(Duration::ZERO)), Phase::Stopping, "{phase:?}");
        }
    }

    #[test]
    fn nothing_is_denied_because_a_vm_is_being_taken_over() {
        for order in ORDERS {
            assert!(matches!(admit(Phase::Adopting, order), Verdict::Admit | Verdict::Later), "{order:?}");
        }
    }

    #[test]
    fn only_a_vm_that_runs_and_is_to_run_on_is_handed_over() {
        for phase in PHASES {
            let admitted = admit(phase, Order::HandOver) == Verdict::Admit;
            assert_eq!(admitted, phase == Phase::Running, "{phase:?}");
        }
    }

    #[test]
    fn a_vm_is_neither_paused_nor_put_to_standby_while_its_guest_is_to_end() {
        for (phase, order) in
            PHASES.into_iter().flat_map(|phase| [(phase, Order::Pause), (phase, Order::Standby)])
        {
            assert_eq!(
                admit(phase, order) == Verdict::Admit,
                phase == Phase::Running,
                "{order:?} while {phase:?}"
            );
        }
    }

    #[test]
    fn what_does_not_run_takes_no_signals() {
        for phase in PHASES {
            let admitted = admit(phase, Order::Signal(15)) == Verdict::Admit;
            assert_eq!(admitted, matches!(phase, Phase::Running | Phase::Stopping), "{phase:?}");
        }
    }

    proptest! {
        #[test]
        fn no_order_leads_back_and_a_kill_goes_before_everything(
            begin in prop::sample::select(&PHASES[..]),
            orders in prop::collection::vec(prop::sample::select(&ORDERS[..]), 0..20),
        ) {
            let mut phase = begin;
            for order in orders {
                let before = phase;
                if admit(phase, order) == Verdict::Admit {
                    phase = after(phase, order);
                }
                prop_assert!(phase >= before);
                if matches!(order, Order::Kill | Order::Discard) {
                    prop_assert!(phase >= Phase::Ending, "{order:?} while {before:?} led to {phase:?}");
                }
            }
            // No order pretends that the VMM has ended or that all is written.
            prop_assert!(phase <= begin.max(Phase::Ending));
        }

        #[test]
        fn what_was_done_need_not_be_done_again(
            begin in prop::sample::select(&PHASES[..]),
            order in prop::sample::select(&[Order::Stop(Duration::ZERO), Order::Kill][..]),
        ) {
            let phase = if admit(begin, order) == Verdict::Admit { after(begin, order) } else { begin };
            let again = admit(phase, order);
            prop_assert!(again == Verdict::NothingToDo || after(phase, order) == phase);
        }
    }
}
