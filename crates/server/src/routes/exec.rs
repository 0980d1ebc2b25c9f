//! Commands in a guest, over a websocket: upstream's frames.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use axum::http::Response;
use axum::routing::get;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use hypeman_agent::protocol::{Exec, Say, Size};
use hypeman_session::exec::{Ended, Event, Output, start};
use hypeman_session::{Error, Guest};
use hypeman_wire::exec::{ExecRequest, Exited, Resize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::guest::{Frames, Upgrade, close, converse, first, next, send_document};
use super::instances::InstanceId;
use crate::app::App;
use crate::call::Call;
use crate::refusal::Answer;
use crate::spool::Spool;

/// How long the guest's agent is waited for, unless the client wants more.
const AGENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit codes of a command that could not be run, and of one whose time was up (timeout(1)).
const NOT_RUN: i32 = 127;
const TIMED_OUT: i32 = 124;

/// Number of pieces of input on their way to the guest.
const MOST_WAITING: usize = 4;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/instances/{id}/exec", get(exec))
}

/// Runs a command in a guest. stdout and stderr come as binary frames as they are written; the last
/// frame is the exit code. A client that leaves ends the command.
async fn exec(upgrade: Upgrade, call: Call<InstanceId>) -> Answer<Response<axum::body::Body>> {
    converse(upgrade, call, conversation).await
}

async fn conversation(app: App, guest: Guest, socket: WebSocket) {
    let (mut frames, mut from) = socket.split();
    let Some(request) = first::<ExecRequest>(&mut from).await else { return };
    let request = match request {
        Ok(request) => request,
        Err(refusal) => {
            let error = serde_json::json!({ "error": refusal.message() });
            send_document(&mut frames, &error).await;
            return close(&mut frames).await;
        }
    };
    let began = Instant::now();
    let exit_code = run(&app, &guest, request, &mut frames, from).await;
    app.metrics().executed(began.elapsed(), exit_code == Some(0));
    if let Some(exit_code) = exit_code {
        send_document(&mut frames, &Exited { exit_code }).await;
        close(&mut frames).await;
    }
}

/// Runs a command to its end; its exit code, or `None` when the client has left.
async fn run(
    app: &App,
    guest: &Guest,
    request: ExecRequest,
    frames: &mut Frames,
    from: SplitStream<WebSocket>,
) -> Option<i32> {
    let has_terminal = request.tty;
    let patience = AGENT_TIMEOUT.max(Duration::from_secs(request.wait_for_agent));
    let started = tokio::time::timeout(patience, async {
        let stream = guest.connect().await?;
        start(stream, command(request)).await
    });
    let (output, input) = match started.await {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => {
            let code = if let Error::NotRun(failure) = &error { failure.code } else { NOT_RUN };
            return tell(frames, &hypeman_files::with_causes(&error)).await.then_some(code);
        }
        Err(_) => return tell(frames, &Error::NoAnswer.to_string()).await.then_some(NOT_RUN),
    };
    let (typed, pieces) = mpsc::channel(MOST_WAITING);
    let (say, said) = mpsc::unbounded_channel();
    // Both end with this function, and with them the command.
    let mut aside = JoinSet::new();
    aside.spawn(async move { drop(input.pass_on(Some(pieces), said).await) });
    let spool = Spool::new(app.host().data_dir().path());
    tokio::select! {
        code = show(app, output, frames) => code,
        () = read(app, from, typed, say, has_terminal, spool) => None,
        () = app.stopping().cancelled() => None,
    }
}

/// The command that a client wants.
fn command(request: ExecRequest) -> Exec {
    let set = |text: String| Some(text).filter(|text| !text.is_empty());
    let usual = |value: u16, usual: u16| if value == 0 { usual } else { value };
    Exec {
        argv: if request.command.is_empty() { vec!["/bin/sh".to_owned()] } else { request.command },
        env: request.env,
        workdir: set(request.cwd),
        user: set(request.user),
        interactive: true,
        terminal: request
            .tty
            .then(|| Size { rows: usual(request.rows, 24), columns: usual(request.cols, 80) }),
        detach: false,
        timeout_ms: Some(request.timeout.saturating_mul(1000)).filter(|timeout| *timeout > 0),
    }
}

/// Sends what a command writes, to its end; its exit code.
async fn show(app: &App, mut output: Output, frames: &mut Frames) -> Option<i32> {
    loop {
        let bytes = match output.next().await {
            Ok(Event::Output(bytes) | Event::Errors(bytes)) => bytes,
            Ok(Event::Ended(Ended::Exited(code))) => return Some(code),
            Ok(Event::Ended(Ended::TimedOut)) => return Some(TIMED_OUT),
            Ok(Event::Ended(Ended::Failed(failure))) => {
                return tell(frames, &failure.to_string()).await.then_some(failure.code);
            }
            Err(error) => {
                let reason = format!("the connection to the guest broke: {error}");
                return tell(frames, &reason).await.then_some(NOT_RUN);
            }
        };
        app.metrics().exec_bytes(bytes.len(), 0);
        frames.send(Message::binary(bytes)).await.ok()?;
    }
}

/// Tells an error as upstream does; whether the client takes more.
async fn tell(frames: &mut Frames, reason: &str) -> bool {
    frames.send(Message::binary(Bytes::from(format!("Error: {reason}\r\n")))).await.is_ok()
}

/// Reads what a client sends, whether the command takes it or not: some send all input before they
/// read anything. Returns when the client leaves.
async fn read(
    app: &App,
    mut from: SplitStream<WebSocket>,
    typed: mpsc::Sender<Vec<u8>>,
    say: mpsc::UnboundedSender<Say>,
    has_terminal: bool,
    mut spool: Spool,
) {
    loop {
        tokio::select! {
            message = next(&mut from) => {
                let bytes = match message {
                    None => return,
                    Some(Message::Binary(bytes)) => bytes,
                    Some(Message::Text(text)) => match serde_json::from_str::<Resize>(&text) {
                        Ok(Resize { resize }) if has_terminal => {
                            if resize.rows > 0 && resize.cols > 0 {
                                let size = Size { rows: resize.rows, columns: resize.cols };
                                let _ = say.send(Say::Resize(size)); // the command may have ended
                            }
                            continue;
                        }
                        _ => Bytes::from(text),
                    },
                    Some(_) => continue,
                };
                app.metrics().exec_bytes(0, bytes.len());
                if let Err(error) = spool.push(bytes) {
                    tracing::warn!("input of a command is lost: {error}");
                    return;
                }
            }
            Ok(permit) = typed.reserve(), if !spool.is_empty() => match spool.pop() {
                Ok(Some(piece)) => permit.send(piece.into()),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("input of a command is lost: {error}");
                    return;
                }
            },
        }
    }
}
