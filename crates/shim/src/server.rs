//! The shim's socket: requests in, answers out.

use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hypeman_guest::control;
use hypeman_guest::status::Status;
use hypeman_instance::end::End;
use hypeman_instance::launch::Guest;
use hypeman_instance::layout::names;
use hypeman_instance::protocol::{Request, Response};
use hypeman_instance::state::State;
use hypeman_instance::status;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::supervisor::Shared;

/// Longest request in bytes.
const MAX_REQUEST: u64 = 4096;

/// Time a VMM is given to answer, and to quit before it is killed.
const VMM_PATIENCE: Duration = Duration::from_secs(1);

/// How often a guest that boots is looked at, whether it can hear the power button by now.
const LOOK: Duration = Duration::from_millis(50);

/// How often an init system of the guest's own is pressed, of which we do not know when it begins to listen.
const PRESS_AGAIN: Duration = Duration::from_secs(2);

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
            Err(error) => Response::Error { message: format!("not a request: {error}") },
        };
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        writer.write_all(&line).await?;
    }
}

async fn answer(request: &Request, shared: &Rc<Shared>) -> Response {
    let done = |result: Result<(), String>| match result {
        Ok(()) => Response::Done,
        Err(message) => Response::Error { message },
    };
    match request {
        Request::State => Response::State { state: state(shared).await },
        Request::Wait => Response::Ended { end: ended(shared).await },
        Request::PowerButton => done(power_button(shared).await),
        Request::Signal { signal } => done(send_signal(shared, *signal)),
        Request::Stop { timeout_ms } => {
            stop(shared, Duration::from_millis(*timeout_ms)).await;
            Response::Ended { end: ended(shared).await }
        }
        Request::Kill => {
            kill(shared, "asked to kill the VM").await;
            Response::Ended { end: ended(shared).await }
        }
        Request::Discard => {
            shared.discard.cancel();
            kill(shared, "asked to discard the VM").await;
            Response::Ended { end: ended(shared).await }
        }
    }
}

async fn state(shared: &Shared) -> State {
    if shared.vmm_gone.is_cancelled() {
        return State::Shutdown;
    }
    // Someone else may have paused it. A VMM that does not tell is not waited for.
    let paused = tokio::time::timeout(VMM_PATIENCE, async { shared.vm.lock().await.is_paused().await });
    if matches!(paused.await, Ok(Ok(true))) {
        return State::Paused;
    }
    if is_up(shared) { State::Running } else { State::Initializing }
}

/// Whether the guest has come to run what it is there for.
fn is_up(shared: &Shared) -> bool {
    match (shared.launch.guest, status::read(Path::new(names::STATUS))) {
        (Guest::Bare, _) | (_, Some(Status::Running | Status::Exited { .. } | Status::Signaled { .. })) => {
            true
        }
        (_, Some(Status::Failed { .. }) | None) => false,
    }
}

async fn ended(shared: &Shared) -> End {
    let mut end = shared.end.subscribe();
    // Neither the sender nor, after it was set, the end ever goes away.
    match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
        Ok(Some(end)) => end,
        _ => std::future::pending().await,
    }
}

async fn power_button(shared: &Shared) -> Result<(), String> {
    shared.journal.note("pressing the power button");
    let pressed = tokio::time::timeout(VMM_PATIENCE, async { shared.vm.lock().await.power_button().await });
    match pressed.await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the VMM does not answer".to_owned()),
    }
}

async fn stop(shared: &Shared, timeout: Duration) {
    tokio::select! {
        () = shared.vmm_gone.cancelled() => {}
        () = tokio::time::sleep(timeout) => kill(shared, "the guest has not ended in time").await,
        () = press_until_heard(shared) => {}
    }
}

/// Presses the power button, again when the guest was not up yet, for then nobody heard it. Never comes back.
async fn press_until_heard(shared: &Shared) {
    loop {
        let was_up = is_up(shared);
        if let Err(error) = power_button(shared).await {
            shared.journal.note(format_args!("the power button failed: {error}"));
        }
        match (was_up, shared.launch.guest) {
            (true, Guest::Systemd) => tokio::time::sleep(PRESS_AGAIN).await,
            (true, Guest::Exec | Guest::Bare) => std::future::pending().await,
            (false, _) => {
                while !is_up(shared) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}

/// Ends the VM by force.
async fn kill(shared: &Shared, why: &str) {
    if !shared.vmm_gone.is_cancelled() {
        shared.forced.set(true);
        end_vmm(shared, &format!("{why}: ending it by force")).await;
    }
}

/// Whether the guest will never run again, as far as the VMM tells.
pub(crate) async fn is_halted(shared: &Shared) -> bool {
    let asked = async { shared.vm.lock().await.is_halted().await };
    matches!(tokio::time::timeout(VMM_PATIENCE, asked).await, Ok(Ok(true)))
}

/// Lets the VMM quit, and kills it when it does not.
pub(crate) async fn end_vmm(shared: &Shared, why: &str) {
    shared.journal.note(why);
    let quit = async {
        shared.vm.lock().await.quit().await.map_err(|error| error.to_string())?;
        shared.vmm_gone.cancelled().await;
        Ok::<(), String>(())
    };
    if !matches!(tokio::time::timeout(VMM_PATIENCE, quit).await, Ok(Ok(())))
        && !shared.vmm_gone.is_cancelled()
    {
        shared.journal.note("the VMM does not quit: killing its process");
        if let Err(error) = shared.run.vmm.signal(Signal::KILL) {
            shared.journal.note(format_args!("cannot kill the VMM: {error}"));
        }
    }
}

/// Hands a signal to init. It goes into the socket's buffer; init takes it when it listens.
fn send_signal(shared: &Shared, signal: i32) -> Result<(), String> {
    if shared.launch.guest != Guest::Exec {
        let way_out = "press its power button with `hypeman stop`, or end it with `hypeman kill`";
        return Err(format!("no init of ours runs in this guest that could pass a signal on; {way_out}"));
    }
    let mut line =
        serde_json::to_vec(&control::Request::Signal { signal }).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let broken = |error: std::io::Error| format!("the guest takes no signals: {error}");
    let mut control = shared.control.borrow_mut();
    if control.is_none() {
        let stream = std::os::unix::net::UnixStream::connect(names::CONTROL_SOCKET).map_err(broken)?;
        stream.set_nonblocking(true).map_err(broken)?;
        *control = Some(stream);
    }
    let Some(stream) = control.as_mut() else {
        return Ok(());
    };
    match stream.write(&line) {
        Ok(written) if written == line.len() => Ok(()),
        // A guest that takes nothing has filled the buffer; half a line would garble the next.
        Ok(_) => Err("the guest takes no signals: its port is full".to_owned()),
        Err(error) => {
            *control = None;
            Err(broken(error))
        }
    }
}
