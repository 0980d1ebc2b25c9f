//! The shim's socket: requests in, answers out.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hypeman_record::end::End;
use hypeman_record::format::RELEASE;
use hypeman_record::protocol::{Refusal, Request, Response};
use hypeman_record::state::State;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::control;
use crate::shared::Shared;

/// Longest request in bytes.
const MAX_REQUEST: u64 = 4096;

/// Answers until the VM has ended and nobody waits for an answer any more.
pub(crate) async fn serve(listener: std::os::unix::net::UnixListener, shared: Rc<Shared>) {
    let listener = match listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)) {
        Ok(listener) => listener,
        Err(error) => {
            return shared.journal.note(format_args!("nothing can be asked of this shim: {error}"));
        }
    };
    // Each connection holds a sender; when the last is gone, so is the channel.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let mut end = shared.end.subscribe();
    loop {
        tokio::select! {
            biased; // whoever stands in the backlog at the end is still let in
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (shared, open) = (shared.clone(), open.clone());
                spawn_local(async move {
                    let _open = open;
                    let _ = converse(stream, &shared).await; // an asker that hung up needs no answer
                });
            }
            _ = end.wait_for(Option::is_some) => break,
        }
    }
    drop((listener, open));
    let _ = all_closed.recv().await;
}

/// One connection. It ends with its peer, or with the VM; one whose instance removes itself waits for its peer, who
/// may still be reading the logs.
async fn converse(stream: UnixStream, shared: &Rc<Shared>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut ended = shared.end.subscribe();
        let mut limited = (&mut reader).take(MAX_REQUEST);
        let length = tokio::select! {
            biased; // a request that has arrived is answered
            length = limited.read_until(b'\n', &mut line) => length?,
            _ = ended.wait_for(Option::is_some), if !shared.launch.auto_remove => return Ok(()),
        };
        if length == 0 {
            return Ok(());
        }
        let response = match serde_json::from_slice(&line) {
            Ok(request) => answer(&request, shared).await,
            Err(error) => {
                let message = format!("not a request: {error}");
                Response::Error { kind: Refusal::NotUnderstood, message }
            }
        };
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        writer.write_all(&line).await?;
    }
}

async fn answer(request: &Request, shared: &Rc<Shared>) -> Response {
    let done = |result: Result<(), control::Error>| match result {
        Ok(()) => Response::Done,
        Err(error) => Response::Error { kind: error.refusal(), message: error.to_string() },
    };
    match request {
        Request::Hello { .. } => Response::Hello {
            release: RELEASE.to_owned(),
            abilities: Request::FIRST_ABILITIES.map(str::to_owned).to_vec(),
        },
        Request::State => Response::State { state: state(shared).await },
        Request::Wait => Response::Ended { end: ended(shared).await },
        Request::PowerButton => done(control::power_button(shared).await),
        Request::Signal { signal } => done(control::send_signal(shared, *signal)),
        Request::Stop { timeout_ms } => {
            control::stop(shared, Duration::from_millis(*timeout_ms)).await;
            Response::Ended { end: ended(shared).await }
        }
        Request::Kill => {
            control::kill(shared, "asked to kill the VM").await;
            Response::Ended { end: ended(shared).await }
        }
        Request::Discard => {
            shared.discard.cancel();
            control::kill(shared, "asked to discard the VM").await;
            Response::Ended { end: ended(shared).await }
        }
    }
}

async fn state(shared: &Shared) -> State {
    if shared.vmm_gone.is_cancelled() {
        return State::Shutdown;
    }
    if shared.vm.lock().await.status().borrow().paused.is_some() {
        return State::Paused;
    }
    if control::is_up(shared) { State::Running } else { State::Initializing }
}

async fn ended(shared: &Shared) -> End {
    let mut end = shared.end.subscribe();
    // Neither the sender nor, after it was set, the end ever goes away.
    match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
        Ok(Some(end)) => end,
        _ => std::future::pending().await,
    }
}
