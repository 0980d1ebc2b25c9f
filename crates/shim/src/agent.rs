//! The host's end of the channel to the guest's agent: keeps a session with it, over whatever breaks, joins clients to streams of it,
//! and has it carry out what is asked for by the shim itself.
//!
//! The guest is hostile. What it says is bounded ([`hypeman_agent`]); an agent that is silent or lies is waited for with limits, and costs
//! those who want something of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::io::Result;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hypeman_agent::link::Link;
use hypeman_agent::mux::{self, MAX_STREAMS, Opener, Stream};
use hypeman_agent::protocol::{Order, Report, Request, Slept};
use hypeman_agent::{VSOCK_PORT, brief, frames};
use hypeman_vmm::vm::Vm;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::shared::Shared;
use crate::{guest, old_init};

/// First and longest time between two attempts to begin a session.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A session that has lasted for so long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// How long an agent may take to say its first word once it takes part in a session.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Most who wait for a stream, and most orders that wait.
const MAX_WAITING: usize = 64;

type Answer = oneshot::Sender<std::result::Result<(), String>>;

/// Why an order was not carried out, as far as is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The session broke. Orders that were sent may have been carried out.
    #[error("the guest's agent has gone")]
    Gone,
    /// The agent says so.
    #[error("{0}")]
    Refused(String),
}

/// What is known of the agent, and the way to it.
#[derive(Debug)]
pub(crate) struct Agent {
    session: watch::Sender<Option<Session>>,
    streams: Arc<Semaphore>,
    /// What the guest has missed, until it was told.
    slept: RefCell<Option<Slept>>,
}

/// A session with an agent that has said its first word.
#[derive(Debug, Clone)]
struct Session {
    askers: mpsc::Sender<Opener>,
    orders: mpsc::Sender<(Order, Answer)>,
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

    /// Whether there is a session.
    pub(crate) fn is_there(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Waits until there is a session.
    pub(crate) async fn come(&self) {
        let _ = self.session.subscribe().wait_for(Option::is_some).await; // we have the sender
    }

    /// A stream of its own, as long as the permit is kept; `None` when the session breaks, or all are taken.
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

/// Keeps a session with the agent of a VM, for as long as it is not dropped.
pub(crate) async fn keep(vm: Rc<dyn Vm>, shared: Rc<Shared>) {
    if old_init::is_in(&shared.launch) {
        return; // its port has one client at a time, and that is not us
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        match vm.channel(VSOCK_PORT).await {
            Ok(None) => return,
            Ok(Some(channel)) => {
                let lasted = hold(channel, &shared).await;
                if shared.agent.session.send_replace(None).is_some()
                    && let Err(error) = lasted
                {
                    let note = format_args!("the session with the guest's agent has ended: {error}");
                    shared.journal.note_of_guest(note);
                }
            }
            Err(_) => {} // it does not listen yet
        }
        pause = if begun.elapsed() > GOOD_SESSION { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::time::sleep(pause).await;
    }
}

/// Holds one session, to its end.
async fn hold(channel: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> Result<()> {
    let mut link = Link::new(channel);
    link.begin().await?;
    let (askers, mut asked) = mpsc::channel(MAX_WAITING);
    tokio::select! {
        ended = mux::open(&mut link, &mut asked) => ended,
        ended = control(askers, shared) => ended,
    }
}

/// The shim's own stream.
async fn control(askers: mpsc::Sender<Opener>, shared: &Shared) -> Result<()> {
    let (asker, opened) = oneshot::channel();
    let _ = askers.send(asker).await; // else nothing is opened
    let Ok(mut stream) = opened.await else { return pending().await }; // the session tells why
    let first = async {
        frames::write_message(&mut stream, &Request::Control).await?;
        frames::read_message(&mut stream).await
    };
    let Report::Hello { release } = tokio::time::timeout(FIRST_WORD, first).await?? else {
        return Err(std::io::Error::other("its first word is no hello"));
    };
    let (orders, mut ordered) = mpsc::channel::<(Order, Answer)>(MAX_WAITING);
    // Before anybody else: a guest that stands still goes on with this.
    let slept = shared.agent.slept.borrow().clone();
    let slept = slept.map(|slept| Box::new(Slept { unix_nanoseconds: guest::unix_nanoseconds(), ..slept }));
    let (answer, woken) = oneshot::channel();
    let _ = orders.try_send((Order::Thaw { slept }, answer));
    let waiting = RefCell::new(VecDeque::new());
    let (mut reader, mut writer) = tokio::io::split(stream);
    let say = async {
        while let Some((order, answer)) = ordered.recv().await {
            waiting.borrow_mut().push_back(answer);
            frames::write_message(&mut writer, &order).await?;
        }
        Ok(())
    };
    let hear = async {
        loop {
            tokio::task::yield_now().await; // a guest that never falls silent has only its turn
            let answer = match frames::read_message(&mut reader).await? {
                Report::Done => Ok(()),
                Report::Failed { message } => Err(brief(&message)),
                Report::Health(health) => {
                    shared.published.send_modify(|published| published.health = Some(health.bounded()));
                    continue;
                }
                Report::Hello { .. } => continue,
            };
            let Some(asker) = waiting.borrow_mut().pop_front() else {
                return Err(std::io::Error::other("it answers what nobody has asked"));
            };
            let _: std::result::Result<(), _> = Answer::send(asker, answer); // whoever asked may have gone
        }
    };
    let begin = async {
        match woken.await {
            Ok(Ok(())) => *shared.agent.slept.borrow_mut() = None,
            Ok(Err(error)) => shared.journal.note_of_guest(format_args!("the guest was not woken: {error}")),
            Err(_) => return pending().await,
        }
        let release = brief(&release);
        shared.journal.note_of_guest(format_args!("the guest's agent is there, release {release}"));
        shared.agent.session.send_replace(Some(Session { askers, orders }));
        pending::<Result<()>>().await
    };
    tokio::select! {
        ended = say => ended,
        ended = hear => ended,
        ended = begin => ended,
    }
}
