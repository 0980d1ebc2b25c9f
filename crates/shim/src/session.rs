//! Keeps a session with the guest's agent, over whatever breaks, and has it carry out orders.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::io::Result;
use std::rc::Rc;
use std::time::Duration;

use hypeman_agent::link::Link;
use hypeman_agent::mux::{self, Opener};
use hypeman_agent::protocol::{Order, Report, Request, Slept};
use hypeman_agent::{VSOCK_PORT, brief, frames};
use hypeman_vmm::vm::Vm;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::agent::{Answer, MAX_WAITING, Session};
use crate::shared::Shared;
use crate::{guest, old_init};

/// First and longest time between two attempts to begin a session.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A session that has lasted for so long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// Timeout for an agent to say its first word once it takes part in a session.
const FIRST_WORD: Duration = Duration::from_secs(10);

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
                if shared.agent.end_session()
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
    // Before anybody else: a frozen guest thaws with this.
    let slept = shared.agent.slept();
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
                return Err(std::io::Error::other("it answers a request that was not sent"));
            };
            let _: std::result::Result<(), _> = Answer::send(asker, answer); // whoever asked may have gone
        }
    };
    let begin = async {
        match woken.await {
            Ok(Ok(())) => shared.agent.was_woken(),
            Ok(Err(error)) => shared.journal.note_of_guest(format_args!("the guest was not woken: {error}")),
            Err(_) => return pending().await,
        }
        let release = brief(&release);
        shared.journal.note_of_guest(format_args!("the guest's agent is there, release {release}"));
        shared.agent.begin_session(Session { askers, orders });
        pending::<Result<()>>().await
    };
    tokio::select! {
        ended = say => ended,
        ended = hear => ended,
        ended = begin => ended,
    }
}
