//! The guest's agent, as the rest of the shim knows it: whether there is a session with it, streams
//! to it for clients, and orders of the shim's own ([`crate::session`] keeps the session).
//!
//! The guest is hostile. What it says is bounded ([`hypeman_agent`]); an agent that is silent or
//! lies is waited for with limits, and costs those who want something of it.

use std::cell::RefCell;
use std::sync::Arc;

use hypeman_agent::mux::{MAX_STREAMS, Opener, Stream};
use hypeman_agent::protocol::{Order, Slept};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Most who wait for a stream, and most orders that wait.
pub(crate) const MAX_WAITING: usize = 64;

pub(crate) type Answer = oneshot::Sender<std::result::Result<(), String>>;

/// Why an order was not carried out, as far as is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The session broke. Orders that were sent may have been carried out.
    #[error("the guest's agent ended")]
    Gone,
    /// The agent says so.
    #[error("{0}")]
    Refused(String),
}

/// State of the agent, and the connection to it.
#[derive(Debug)]
pub(crate) struct Agent {
    session: watch::Sender<Option<Session>>,
    streams: Arc<Semaphore>,
    /// Report of a standby for the guest, until it is delivered.
    slept: RefCell<Option<Slept>>,
}

/// A session with an agent that has said its first word.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) askers: mpsc::Sender<Opener>,
    pub(crate) orders: mpsc::Sender<(Order, Answer)>,
}

impl Agent {
    pub(crate) fn new() -> Agent {
        Agent {
            session: watch::Sender::new(None),
            streams: Arc::new(Semaphore::new(MAX_STREAMS - 1)), // one is our own
            slept: RefCell::new(None),
        }
    }

    /// The guest goes on after a sleep, and is told so first.
    pub(crate) fn has_slept(&self, slept: Slept) {
        *self.slept.borrow_mut() = Some(slept);
    }

    /// Returns the report of a standby that is not delivered yet.
    pub(crate) fn slept(&self) -> Option<Slept> {
        self.slept.borrow().clone()
    }

    /// The guest was told what it has missed.
    pub(crate) fn was_woken(&self) {
        *self.slept.borrow_mut() = None;
    }

    /// Makes a session known to those who wait for one.
    pub(crate) fn begin_session(&self, session: Session) {
        self.session.send_replace(Some(session));
    }

    /// Forgets the session; whether there was one.
    pub(crate) fn end_session(&self) -> bool {
        self.session.send_replace(None).is_some()
    }

    /// Whether there is a session.
    pub(crate) fn is_there(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Waits until there is a session.
    pub(crate) async fn come(&self) {
        let _ = self.session.subscribe().wait_for(Option::is_some).await; // we have the sender
    }

    /// A stream of its own, as long as the permit is kept; `None` when the session breaks, or all
    /// are taken.
    pub(crate) async fn open(&self) -> Option<(Stream, OwnedSemaphorePermit)> {
        let permit = self.streams.clone().try_acquire_owned().ok()?;
        let askers = self.session.borrow().as_ref()?.askers.clone();
        let (asker, opened) = oneshot::channel();
        askers.send(asker).await.ok()?;
        Some((opened.await.ok()?, permit))
    }

    /// Has the agent carry something out, and waits until it has. There has to be a session.
    pub(crate) async fn order(&self, order: Order) -> std::result::Result<(), Failure> {
        let session = self.session.borrow().clone();
        let Some(Session { orders, .. }) = session else { return Err(Failure::Gone) };
        let (answer, answered) = oneshot::channel();
        if orders.send((order, answer)).await.is_err() {
            return Err(Failure::Gone);
        }
        answered.await.map_err(|_| Failure::Gone)?.map_err(Failure::Refused)
    }
}
