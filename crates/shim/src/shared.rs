//! State that the tasks of one shim share: the launch, our own log, and the state of the VM as it
//! is published.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use hypeman_console::keyboard::Keyboard;
use hypeman_record::end::{End, Reason};
use hypeman_record::guest::health::Health;
use hypeman_record::guest::status::Status;
use hypeman_record::launch::{Guest, Launch};
use hypeman_record::protocol::{Counts, Seen};
use hypeman_record::state::State;
use hypeman_record::{names, status};
use hypeman_vmm::vm::Paused;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::journal::Journal;
use crate::old_init;
use crate::policy::Phase;

/// Published state of the VM. Requests are answered from it, without asking the VMM.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Published {
    /// Where in its life it is.
    pub(crate) phase: Phase,
    /// Whether its vCPUs are stopped, and why.
    pub(crate) paused: Option<Paused>,
    /// How it ended, from when the VMM has.
    pub(crate) end: Option<End>,
    /// Result of the health checks, if there are any.
    pub(crate) health: Option<Health>,
    /// Handling of output while its log cannot be written, and the reason.
    pub(crate) stalled: Option<String>,
    /// Reason why it has no network any more.
    pub(crate) cut_off: Option<String>,
}

/// Shared by the tasks.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The order.
    pub(crate) launch: Launch,
    /// Our own log.
    pub(crate) journal: Rc<Journal>,
    /// The state of the VM, published by its driver.
    pub(crate) published: watch::Sender<Published>,
    /// Events of the console's log.
    pub(crate) counts: Cell<Counts>,
    /// Message that watchers received last.
    seen: RefCell<Option<Seen>>,
    /// Keyboard input for the guest.
    pub(crate) keyboard: Keyboard,
    /// The guest's agent.
    pub(crate) agent: Agent,
    /// The port of an init of a release before there was an agent.
    pub(crate) old_init: old_init::Port,
    /// The instance is to be removed: do not wait for room for what cannot be written.
    pub(crate) discard: CancellationToken,
}

impl Shared {
    pub(crate) fn new(launch: Launch, journal: Rc<Journal>) -> Shared {
        let published = Published {
            phase: Phase::Booting,
            paused: None,
            end: None,
            health: None,
            stalled: None,
            cut_off: None,
        };
        Shared {
            launch,
            journal,
            published: watch::Sender::new(published),
            counts: Cell::default(),
            seen: RefCell::new(None),
            keyboard: Keyboard::new(),
            agent: Agent::new(),
            old_init: old_init::Port::default(),
            discard: CancellationToken::new(),
        }
    }

    /// The phase.
    pub(crate) fn phase(&self) -> Phase {
        self.published.borrow().phase
    }

    /// Publishes another phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.published.send_modify(|published| published.phase = phase);
    }

    /// Whether the guest has come to run what it is there for.
    pub(crate) fn is_up(&self) -> bool {
        match (self.launch.guest, status::read(Path::new(names::STATUS))) {
            (Guest::Bare, _)
            | (_, Some(Status::Running | Status::Exited { .. } | Status::Signaled { .. })) => true,
            (_, Some(Status::Failed { .. }) | None) => false,
        }
    }

    /// The state in upstream's words, and what there is to say of it.
    pub(crate) fn state(&self) -> (State, Option<String>) {
        let published = self.published.borrow();
        match (published.phase, &published.paused) {
            (Phase::Booting, _) => (State::Initializing, None),
            (Phase::Suspending, _) => (State::Paused, Some("its snapshot is being written".to_owned())),
            (Phase::Adopting | Phase::Running | Phase::Stopping, Some(paused)) => {
                (State::Paused, explain(paused))
            }
            (Phase::Adopting | Phase::Running, None) => {
                let state = if self.is_up() { State::Running } else { State::Initializing };
                (state, published.stalled.clone().or_else(|| published.cut_off.clone()))
            }
            (Phase::Stopping, None) => (State::Running, Some("it is being stopped".to_owned())),
            (Phase::Ending, _) => (State::Shutdown, Some("its VMM is being ended".to_owned())),
            (Phase::Draining, _) => {
                (State::Shutdown, Some("it ended, and its output is being written".to_owned()))
            }
            (Phase::Ended, _) => {
                let end = published.end.as_ref().map(|end| end.reason);
                (if end == Some(Reason::Standby) { State::Standby } else { State::Stopped }, None)
            }
        }
    }
}

impl Shared {
    /// Returns the message for watchers.
    pub(crate) fn seen(&self) -> Seen {
        let (state, reason) = self.state();
        let (health, end) = {
            let published = self.published.borrow();
            (published.health.clone(), published.end.clone().filter(|_| published.phase == Phase::Ended))
        };
        let mut last = self.seen.borrow_mut();
        let seen = Seen { generation: 0, state, reason, health, end };
        match (seen.after(last.as_ref()), &*last) {
            (None, Some(last)) => last.clone(),
            (next, _) => last.insert(next.unwrap_or(seen)).clone(),
        }
    }
}

/// Explains a pause that hypeman did not ask for.
pub(crate) fn explain(paused: &Paused) -> Option<String> {
    match paused {
        Paused::Requested => None,
        Paused::DiskFull => Some("the host's disk is full; it resumes when there is room".to_owned()),
        Paused::DiskError(error) => Some(format!("the host cannot use the guest's disk: {error}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use hypeman_console::log::Limits;
    use hypeman_record::format;

    use super::*;

    /// Returns the shared state of a shim with its log in a test's directory.
    pub(crate) fn shared(directory: &Path) -> Rc<Shared> {
        let old =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/testdata/before-formats/ended/launch.json");
        let launch: Launch = format::read(&old).unwrap().expect("an order");
        let limits = Limits { max_size: 1 << 20, max_files: 1 };
        let journal = Journal::open(&directory.join("hypeman.log"), limits).unwrap();
        Rc::new(Shared::new(launch, Rc::new(journal)))
    }
}
