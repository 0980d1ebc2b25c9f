//! exec: a command in an instance that runs.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use hypeman_agent::frames::MAX_DATA;
use hypeman_agent::names::to_text;
use hypeman_agent::protocol::{Exec, Failure, Say, Size};
use hypeman_host::{Host, how_it_ended};
use hypeman_session::exec::{Ended, Event, Output, start};
use hypeman_session::{Error, in_background};
use rustix::termios::tcgetwinsize;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::foreground::Interrupts;
use crate::args::ExecArguments;
use crate::background::runtime;
use crate::keyboard::RawTerminal;
use crate::{agent, env_file, output};

/// Maximum number of pieces of output that wait for our reader, and of input for the guest.
const MOST_WAITING: usize = 4;

/// Exit code after a timeout, as timeout(1)'s.
const TIMED_OUT: u8 = 124;

/// Exit code of a command whose VM has ended: 128, and SIGKILL.
const ENDED_WITH_VM: u8 = 137;

/// Exit code of a program whose output is closed: 128 + SIGPIPE.
const NOT_READ: u8 = 141;

pub(crate) fn exec(host: &Host, arguments: &ExecArguments) -> Result<ExitCode> {
    let words: Vec<String> = arguments.name_and_command.iter().map(|word| to_text(word)).collect();
    let [name, argv @ ..] = &words[..] else { bail!("give an instance and a command") };
    if arguments.interactive && arguments.tty && !std::io::stdin().is_terminal() {
        bail!("standard input is not a terminal; omit -t");
    }
    let exec = Exec {
        argv: argv.to_vec(),
        env: env_file::collect(&arguments.env_file, &arguments.env)?,
        workdir: arguments.workdir.clone(),
        user: arguments.user.clone(),
        interactive: arguments.interactive,
        terminal: arguments.tty.then(size),
        detach: arguments.detach,
        timeout_ms: arguments.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    };
    if exec.workdir.as_ref().is_some_and(|workdir| !workdir.starts_with('/')) {
        bail!("the working directory {:?} is not absolute", exec.workdir.unwrap_or_default());
    }
    let instance = host.find(name)?;
    let guest = host.guest(&instance);
    let code = runtime()?.block_on(async { converse(exec, guest.connect().await?).await });
    code.or_else(|error| match error.downcast::<Error>() {
        Ok(Error::NotRun(failure)) => Ok(failed(&failure)),
        Ok(error) if error.is_broken() => match how_it_ended(&instance) {
            Some(how) => {
                output::complain(format_args!("{name}: {how}, and the command ended with it"));
                Ok(ExitCode::from(ENDED_WITH_VM))
            }
            None => Err(agent::broke(&instance)),
        },
        Ok(error) => Err(hypeman_host::Error::from(error).into()),
        Err(error) => Err(error),
    })
}

/// The size of our terminal.
fn size() -> Size {
    let size = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin()));
    size.map(|size| Size { rows: size.ws_row, columns: size.ws_col }).unwrap_or_default()
}

async fn converse(exec: Exec, stream: UnixStream) -> Result<ExitCode> {
    let (is_detached, types) = (exec.detach, exec.interactive);
    let is_terminal = exec.terminal.is_some();
    let mut interrupts = Interrupts::new()?;
    let mut resized = signal(SignalKind::window_change()).context("listen to the terminal")?;
    let (output, input) = start(stream, exec).await?;
    if is_detached {
        return Ok(ExitCode::SUCCESS);
    }
    let _raw = if types && is_terminal { RawTerminal::take(true)? } else { None };
    let (say, said) = mpsc::unbounded_channel();
    let mut shown = tokio::spawn(show(output));
    let typing = tokio::spawn(input.pass_on(types.then(read_input), said));
    let mut interrupted = 0;
    let code = loop {
        tokio::select! {
            code = &mut shown => break code.context("show the command's output")??,
            _ = resized.recv(), if is_terminal => {
                let _ = say.send(Say::Resize(size()));
            }
            signal = interrupts.next() => {
                interrupted += 1;
                if interrupted > 1 {
                    break ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
                }
                let _ = say.send(Say::Signal { signal });
            }
        }
    };
    typing.abort();
    Ok(code)
}

fn failed(failure: &Failure) -> ExitCode {
    output::complain(failure);
    ExitCode::from(u8::try_from(failure.code).unwrap_or(u8::MAX))
}

/// Shows what the command prints, to its end; its exit code.
async fn show(mut command: Output) -> Result<ExitCode> {
    let output = Sink::new(std::io::stdout());
    let errors = Sink::new(std::io::stderr());
    let code = loop {
        let is_read = match command.next().await? {
            Event::Output(bytes) => output.write(bytes).await,
            Event::Errors(bytes) => errors.write(bytes).await,
            Event::Ended(Ended::Exited(code)) => break ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            Event::Ended(Ended::TimedOut) => {
                output::complain("the command was ended: its --timeout was up");
                break ExitCode::from(TIMED_OUT);
            }
            Event::Ended(Ended::Failed(failure)) => break failed(&failure),
        };
        if !is_read {
            break ExitCode::from(NOT_READ);
        }
    };
    // An output that output closed is no error of a command that has ended by itself.
    output.finish().await?;
    errors.finish().await?;
    Ok(code)
}

/// One of our outputs, which may block its writer, a thread of its own.
struct Sink {
    pieces: mpsc::Sender<Vec<u8>>,
    written: oneshot::Receiver<std::io::Result<()>>,
}

impl Sink {
    fn new(mut output: impl Write + Send + 'static) -> Sink {
        let (pieces, mut waiting) = mpsc::channel::<Vec<u8>>(MOST_WAITING);
        let written = in_background(move || {
            while let Some(piece) = waiting.blocking_recv() {
                output.write_all(&piece).and_then(|()| output.flush())?;
            }
            Ok(())
        });
        Sink { pieces, written }
    }

    /// Whether it takes more.
    async fn write(&self, piece: Vec<u8>) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until all is written; whether somebody reads it.
    async fn finish(self) -> Result<bool> {
        drop(self.pieces);
        match self.written.await {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Ok(written) => written.map(|()| true).context("write the command's output"),
            Err(_) => bail!("the output was not written"),
        }
    }
}

/// Standard input, piece by piece.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, pieces) = mpsc::channel(MOST_WAITING);
    // Not the runtime's: it waits for what may never come, and is not waited for.
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut piece = vec![0; MAX_DATA];
            let count = match stdin.read(&mut piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.unwrap_or(0),
            };
            piece.truncate(count);
            if count == 0 || sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    pieces
}
