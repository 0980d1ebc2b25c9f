//! The shim's socket: requests in, answers out. What is to be done goes to the driver; what is to
//! be told is published.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hypeman_record::format::RELEASE;
use hypeman_record::protocol::{self, Refusal, Request, Response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::order::{Asked, Error};
use crate::policy::{self, Order, Phase, Verdict};
use crate::shared::Shared;
use crate::{attach, relay, watch};

/// Maximum length of a request in bytes.
const MAX_REQUEST: u64 = 4096;

/// Timeout for writing the rest of the log at the VM's end. On a full disk that
/// may take for ever, and the VM has ended all the same.
const WRITING: Duration = Duration::from_millis(500);

/// Delay after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until the VM has ended and nobody waits for an answer any more.
pub(crate) async fn serve(
    listener: std::os::unix::net::UnixListener,
    shared: Rc<Shared>,
    orders: mpsc::Sender<Asked>,
) {
    let listener = match listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)) {
        Ok(listener) => listener,
        Err(error) => {
            return shared.journal.note(format_args!("nothing can be asked of this shim: {error}"));
        }
    };
    // Each connection holds a sender; when the last is gone, so is the channel.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let mut published = shared.published.subscribe();
    loop {
        tokio::select! {
            biased; // whoever stands in the backlog at the end is still let in
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(PAUSE).await; // out of descriptors, most often: they do not come by asking on
                    continue;
                };
                let (shared, orders, open) = (shared.clone(), orders.clone(), open.clone());
                spawn_local(async move {
                    let _open = open;
                    let _ = converse(stream, &shared, &orders).await; // an asker that hung up needs no answer
                });
            }
            _ = published.wait_for(|published| published.phase == Phase::Ended) => break,
        }
    }
    drop((listener, open));
    let _ = all_closed.recv().await;
}

/// One connection. It ends with its peer, or with the VM; one whose instance removes itself waits
/// for its peer, who may still be reading the logs.
async fn converse(
    stream: UnixStream,
    shared: &Rc<Shared>,
    orders: &mpsc::Sender<Asked>,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut published = shared.published.subscribe();
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_REQUEST);
        let length = tokio::select! {
            biased; // a request that has arrived is answered
            length = limited.read_until(b'\n', &mut line) => length?,
            _ = published.wait_for(|published| published.phase == Phase::Ended), if !shared.launch.auto_remove => {
                return Ok(());
            }
        };
        if length == 0 {
            return Ok(());
        }
        let request = serde_json::from_slice(&line);
        if matches!(request, Ok(Request::Watch)) {
            return watch::tell(reader, writer, shared).await;
        }
        let attaches = matches!(request, Ok(Request::Attach));
        let mut agent = None;
        let response = match request {
            Ok(Request::Agent) => match relay::open(shared).await {
                Ok(opened) => {
                    agent = Some(opened);
                    Response::Done
                }
                Err(error) => refused(&error),
            },
            Ok(request) => answer(&request, shared, orders).await,
            Err(error) => {
                let message = format!("not a request: {error}");
                Response::Error { kind: Refusal::NotUnderstood, cause: None, message }
            }
        };
        writer.write_all(&protocol::line(&response)?).await?;
        if let Some(agent) = agent {
            tokio::select! {
                () = relay::join(reader, writer, agent) => {}
                _ = published.wait_for(|published| published.phase >= Phase::Draining) => {}
            }
            return Ok(());
        }
        if attaches && response == Response::Done {
            tokio::select! {
                typed = attach::take_keys(&mut reader, shared) => return typed,
                _ = published.wait_for(|published| published.phase >= Phase::Ending) => return Ok(()),
            }
        }
    }
}

fn refused(error: &Error) -> Response {
    Response::Error { kind: error.refusal(), cause: Some(error.kind()), message: error.to_string() }
}

async fn answer(request: &Request, shared: &Rc<Shared>, orders: &mpsc::Sender<Asked>) -> Response {
    let order = match request {
        Request::Hello { .. } => {
            return Response::Hello {
                release: RELEASE.to_owned(),
                abilities: Request::ABILITIES.map(str::to_owned).to_vec(),
            };
        }
        Request::State => {
            let (state, reason) = shared.state();
            let health = shared.published.borrow().health.clone();
            return Response::State { state, reason, health, console: Some(shared.counts.get()) };
        }
        Request::Wait => return ended(shared, None).await,
        Request::Attach => return attach::answer(shared),
        Request::Agent | Request::Watch => return Response::Done, // each with a stream of its own
        Request::PowerButton => Order::PowerButton,
        Request::Signal { signal } => Order::Signal(*signal),
        Request::Stop { timeout_ms } => Order::Stop(Duration::from_millis(*timeout_ms)),
        Request::Kill => Order::Kill,
        Request::Discard => Order::Discard,
        Request::Pause => Order::Pause,
        Request::Resume => Order::Resume,
        Request::Standby => Order::Standby,
        Request::HandOver => Order::HandOver,
    };
    if let Err(error) = give(order, shared, orders).await {
        return refused(&error);
    }
    match order {
        Order::PowerButton
        | Order::Signal(_)
        | Order::Pause
        | Order::Resume
        | Order::Standby
        | Order::HandOver => Response::Done,
        Order::Stop(_) | Order::Kill => ended(shared, Some(WRITING)).await,
        Order::Discard => ended(shared, None).await, // what cannot be written is given up
    }
}

/// Gives an order to the driver, and waits for its answer.
async fn give(order: Order, shared: &Shared, orders: &mpsc::Sender<Asked>) -> Result<(), Error> {
    let (reply, word) = oneshot::channel();
    if orders.send(Asked { order, reply }).await.is_ok()
        && let Ok(word) = word.await
    {
        return word;
    }
    // There is no driver any more: its VM has ended, or is about to be.
    match policy::admit(shared.phase().max(Phase::Ending), order) {
        Verdict::Denied(denial) => Err(denial.into()),
        Verdict::Admit | Verdict::NothingToDo | Verdict::Later => Ok(()),
    }
}

/// Waits for the end, and then for all that was printed to be written, at most for so long.
async fn ended(shared: &Shared, writing: Option<Duration>) -> Response {
    let mut published = shared.published.subscribe();
    let end = match published.wait_for(|published| published.end.is_some()).await.map(|now| now.end.clone()) {
        Ok(Some(end)) => end,
        _ => std::future::pending().await, // neither the sender nor, after it was set, the end ever goes away
    };
    let written = published.wait_for(|published| published.phase == Phase::Ended);
    let unwritten = match writing {
        None => written.await.is_err(),
        Some(limit) => tokio::time::timeout(limit, written).await.is_err(),
    };
    Response::Ended { end, unwritten }
}
