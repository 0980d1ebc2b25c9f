//! Commands that are run for someone at the host.

use std::cell::Cell;
use std::future::pending;
use std::io::{ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use hypeman_agent::frames::{self, Kind};
use hypeman_agent::mux::Stream;
use hypeman_agent::protocol::{Exec, INPUT_WINDOW, Ran, Say, Size};
use rustix::fs::{Mode, OFlags, Uid};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::Winsize;
use tokio::io::ReadHalf;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::Agent;
use super::output::Output;
use super::pipe::{Pipe, Printed};
use super::session::{self, Session};
use crate::output::pipe;
use crate::process::{self, Launch, Namespace};
use crate::program::Program;
use crate::report::{Context, Failure};
use crate::user::{self, User};

/// Our ends of a command's input and output.
pub(crate) struct Ends {
    input: Option<Pipe>,
    pub(crate) printed: Printed,
    terminal: Option<OwnedFd>,
}

/// Runs a command to its end, or until its client has gone.
pub(crate) async fn converse(agent: &Agent, exec: Exec, mut stream: Stream) -> Result<()> {
    let (session, ends) = match start(agent, &exec) {
        Ok(started) => started,
        Err(Failure { code, message }) => {
            let failure = hypeman_agent::protocol::Failure { code, message };
            return frames::write_message(&mut stream, &Ran::Failed(failure)).await;
        }
    };
    let pid = session.leader.as_raw_nonzero().get().unsigned_abs();
    let told = frames::write_message(&mut stream, &Ran::Started { pid }).await;
    if exec.detach {
        spawn_local(async move { session.ended().await });
        return told;
    }
    let (reader, writer) = tokio::io::split(stream);
    let (wanted, credits) = mpsc::unbounded_channel();
    let mut printed = ends.printed;
    let output = Output { writer, printed: &mut printed, credits };
    let input = Input { typed: ends.input, terminal: ends.terminal, wanted, leader: session.leader };
    let timeout = exec.timeout_ms.map(Duration::from_millis);
    let told = tokio::select! {
        told = output.pass_on(&session, timeout) => told,
        () = input.take(reader) => Err(ErrorKind::UnexpectedEof.into()),
    };
    if told.is_err() {
        // The client has gone. The command may report that, and must not end by it.
        tokio::select! {
            () = session.end(Signal::HUP) => {}
            () = printed.discard() => {}
        }
    }
    session::sweep();
    told
}

/// Input from the client of a command.
struct Input {
    /// The command's input; `None` when that is empty.
    typed: Option<Pipe>,
    terminal: Option<OwnedFd>,
    /// Takes how much more may come.
    wanted: mpsc::UnboundedSender<u32>,
    leader: Pid,
}

impl Input {
    /// Takes it until they have gone, or say what nobody says. The command may take its time with
    /// its input, and is still sent signals.
    async fn take(self, mut reader: ReadHalf<Stream>) {
        let Input { typed, terminal, wanted, leader } = self;
        let unread = Cell::new(0); // of what may be sent
        let (keys, waiting) = mpsc::unbounded_channel();
        let listen = async {
            let mut keys = Some(keys);
            while let Ok(Some(frame)) = frames::read(&mut reader).await {
                match (frame.kind, &keys) {
                    (Kind::Data, Some(keys)) => {
                        unread.set(unread.get() + frame.body.len());
                        if unread.get() > INPUT_WINDOW as usize || keys.send(frame.body).is_err() {
                            return;
                        }
                    }
                    (Kind::End, _) => keys = None,
                    (Kind::Message, _) => match frame.message() {
                        Ok(say) => hear(say, terminal.as_ref(), leader),
                        Err(_) => return,
                    },
                    (Kind::Data | Kind::Error, _) => return,
                }
            }
        };
        tokio::select! {
            () = listen => {}
            () = type_all(typed, waiting, wanted, &unread) => {}
        }
    }
}

/// Types to a command what comes, for as long as it reads, and tells how much more may come. Never
/// done.
async fn type_all(
    typed: Option<Pipe>,
    mut keys: mpsc::UnboundedReceiver<Vec<u8>>,
    wanted: mpsc::UnboundedSender<u32>,
    unread: &Cell<usize>,
) {
    let mut typed = typed;
    while let Some(keys) = keys.recv().await {
        if let Some(input) = &typed
            && input.write_all(&keys).await.is_err()
        {
            typed = None; // it listens no more
        }
        unread.set(unread.get() - keys.len());
        let _ = wanted.send(u32::try_from(keys.len()).unwrap_or(0));
    }
    drop(typed);
    pending().await
}

fn hear(say: Say, terminal: Option<&OwnedFd>, leader: Pid) {
    match (say, terminal) {
        (Say::Resize(size), Some(terminal)) => {
            let _ = rustix::termios::tcsetwinsize(terminal, window(size));
        }
        (Say::Resize(_), None) => {}
        (Say::Signal { signal }, _) => {
            let _ = process::send(leader.as_raw_nonzero().get(), signal); // it may have ended
        }
    }
}

fn window(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Starts a command as the configuration of the VM's program and the request have it together.
pub(crate) fn start(agent: &Agent, exec: &Exec) -> std::result::Result<(Session, Ends), Failure> {
    let config = &agent.setting.config;
    let user = user::resolve(exec.user.as_ref().unwrap_or(&config.user))?;
    let workdir = exec.workdir.clone().unwrap_or_else(|| config.workdir.clone());
    let mut environment = config.env.clone();
    environment.extend(exec.env.clone());
    let has_terminal = exec.terminal.is_some();
    let program = Program::find(&exec.argv, environment, &workdir, &user.home, has_terminal)?;
    let (streams, ends) = match exec.terminal {
        _ if exec.detach => nowhere(),
        Some(size) => on_terminal(size, &user),
        None => on_pipes(exec.interactive),
    }
    .context("open the command's input and output")?;
    let cgroup = agent.sessions.make(exec.detach);
    let launch = Launch {
        program,
        user,
        workdir,
        limits: config.ulimits.iter().filter_map(|limit| limit.limit()).collect(),
        streams,
        takes_terminal: has_terminal && !exec.detach,
        namespace: namespace(agent),
        cgroup: cgroup.as_deref().and_then(session::list),
    };
    let leader = launch.start()?;
    Ok((Session::of(leader, cgroup).context("watch the command")?, ends))
}

/// Where the VM's program is.
fn namespace(agent: &Agent) -> Namespace {
    let program =
        agent.setting.program.filter(|_| agent.setting.config.pid_namespace).and_then(Pid::from_raw);
    program.map_or(Namespace::Ours, Namespace::Of)
}

fn nowhere() -> Result<([Stdio; 3], Ends)> {
    let printed = Printed { output: None, errors: None };
    let ends = Ends { input: None, printed, terminal: None };
    Ok(([Stdio::null(), Stdio::null(), Stdio::null()], ends))
}

fn on_pipes(interactive: bool) -> Result<([Stdio; 3], Ends)> {
    let (output, their_output) = pipe()?;
    let (errors, their_errors) = pipe()?;
    let (their_input, input) = if interactive {
        let (reader, writer) = pipe()?;
        (reader.into(), Some(Pipe::new(writer)?))
    } else {
        (Stdio::null(), None)
    };
    let printed = Printed { output: Some(Pipe::new(output)?), errors: Some(Pipe::new(errors)?) };
    let ends = Ends { input, printed, terminal: None };
    Ok(([their_input, their_output.into(), their_errors.into()], ends))
}

fn on_terminal(size: Size, user: &User) -> Result<([Stdio; 3], Ends)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(ptsname(&ours, Vec::new())?, flags, Mode::empty())?;
    rustix::termios::tcsetwinsize(&ours, window(size))?;
    // The command may become another user and open its terminal again, as with login(1).
    rustix::fs::fchown(&theirs, Some(Uid::from_raw(user.uid)), None)?;
    let [input, output, terminal] = [ours.try_clone()?, ours.try_clone()?, ours];
    let streams = [theirs.try_clone()?.into(), theirs.try_clone()?.into(), theirs.into()];
    let printed = Printed { output: Some(Pipe::new(output)?), errors: None };
    let ends = Ends { input: Some(Pipe::new(input)?), printed, terminal: Some(terminal) };
    Ok((streams, ends))
}
