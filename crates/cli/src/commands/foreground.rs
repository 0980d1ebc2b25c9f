//! An instance in the foreground: what it prints is shown, what is typed goes to it, until it ends
//! or is left alone.

use std::future::pending;
use std::io::{IsTerminal, Write};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hypeman_console::reader::Start;
use hypeman_host::Host;
use hypeman_host::instance::Instance;
use hypeman_host::observe::Observation;
use hypeman_host::watch::Watch;
use hypeman_record::end::{End, Reason};
use hypeman_record::spec::Accelerator;
use hypeman_record::state::State;
use hypeman_session::follow::Follower;
use hypeman_session::keys::Keyboard;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::logs;
use crate::args::Source;
use crate::keyboard::{self, RawTerminal, Typed};
use crate::output;
use crate::view::{Options, View};

/// Exit code of a run whose program has not ended: docker's for what is not the program's own.
const NOT_ENDED: u8 = 125;

/// A program that has printed nothing after so long is likely to be booting still, and its user to
/// wonder.
const SLOW: Duration = Duration::from_secs(2);

/// Timeout for keys that were typed before those that detach to be passed on.
const LAST_KEYS: Duration = Duration::from_secs(1);

/// How an instance is shown and typed to.
#[derive(Debug)]
pub(crate) struct Foreground<'a> {
    pub(crate) host: &'a Host,
    pub(crate) instance: &'a Instance,
    /// How much of what it has printed is shown.
    pub(crate) start: Start,
    /// A terminal is shown what comes as it is.
    pub(crate) raw: bool,
    /// Keyboard input, and its destination.
    pub(crate) typed: Option<(Typed, Keyboard)>,
    /// Our terminal, if it is the guest's.
    pub(crate) terminal: Option<RawTerminal>,
    /// Action on a signal.
    pub(crate) on_signal: OnSignal,
    /// Whether it has only just been started.
    pub(crate) boots: bool,
}

/// Action on a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// It is the program's; from the second on it ends the VM.
    PassOn,
    /// It ends us alone, but for an interrupt, which is the program's: it was typed before the
    /// terminal was the guest's.
    LeaveUnlessTyped,
    /// It ends us alone.
    Leave,
}

/// How it has come to an end.
enum Left {
    Ended(Result<End>),
    Alone(ExitCode),
}

impl Foreground<'_> {
    /// Stays with the instance. As long as `watch` lives, the logs of an instance that removes
    /// itself do too.
    pub(crate) async fn stay(mut self, watch: Watch, interrupts: Interrupts) -> Result<ExitCode> {
        let terminal = self.terminal.take();
        let (left, watch) = self.show(watch, interrupts).await?;
        drop((terminal, watch));
        let end = match left {
            Left::Ended(end) => end,
            Left::Alone(code) => {
                let name = &self.instance.record.name;
                output::complain(format_args!("{name} keeps running (hypeman logs -f {name})"));
                return Ok(code);
            }
        };
        if self.instance.record.settings.auto_remove
            && end.as_ref().is_ok_and(|end| end.reason != Reason::Standby)
        {
            self.host.wait_for_removal(self.instance)?; // as docker: what was to be removed is gone when we are
        }
        Ok(exit_code(&end?))
    }

    async fn show(&mut self, watch: Watch, mut interrupts: Interrupts) -> Result<(Left, Option<Watch>)> {
        let log = self.instance.logs().app;
        let mut log = Follower::open(&log, self.start, ended(watch))?;
        let is_history = self.start != Start::default();
        let mut shown = logs::Output::new(self.view(self.raw && !is_history))?;
        if is_history {
            // Queries in older output are not for this terminal.
            let _ = shown.show(&mut log.reader)?;
            shown.change(self.view(self.raw))?;
        }
        let (mut typing, mut detached) = self.typing();
        let (mut interrupted, mut is_typed) = (0, false);
        let mut passing = JoinSet::new();
        let mut slow = std::pin::pin!(tokio::time::sleep(SLOW));
        let mut may_be_slow = self.boots && std::io::stderr().is_terminal();
        let mut reader_gone = output::reader_gone();
        let left = loop {
            let _ = shown.show(&mut log.reader)?;
            tokio::select! {
                more = log.more() => if !more? {
                    shown.finish()?;
                    let (end, watch) = log.into_end().context("wait for the VM")?;
                    return Ok((Left::Ended(end), Some(watch)));
                },
                number = interrupts.next() => {
                    interrupted += 1;
                    let is_typed = number == SignalKind::interrupt().as_raw_value();
                    let leaves = match self.on_signal {
                        OnSignal::PassOn => false,
                        OnSignal::LeaveUnlessTyped => !is_typed,
                        OnSignal::Leave => true,
                    };
                    if leaves {
                        break Left::Alone(ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)));
                    }
                    // Aside: a guest that boots takes its time, and the next signal is not to wait
                    // for that.
                    let (host, instance) = (self.host.clone(), self.instance.clone());
                    passing.spawn_blocking(move || host.interrupt(&instance, number, interrupted));
                }
                Some(passed_on) = passing.join_next() => {
                    if let Ok(Err(error)) = passed_on {
                        output::complain(output::explain(&error.into()));
                    }
                }
                // as docker: when the reader stops, the VM keeps running.
                _ = &mut reader_gone => {
                    output::complain("output closed");
                    break Left::Alone(ExitCode::SUCCESS);
                }
                () = &mut detached => {
                    if !is_typed {
                        let _ = tokio::time::timeout(LAST_KEYS, typing).await;
                    }
                    break Left::Alone(ExitCode::SUCCESS);
                }
                () = &mut slow, if may_be_slow => {
                    may_be_slow = false;
                    self.tell_boot(log.reader.cursor().is_some_and(|cursor| cursor.offset() > 0));
                }
                () = &mut typing, if !is_typed => is_typed = true,
            }
        };
        shown.finish()?;
        Ok((left, None))
    }

    /// Tells a user who sees nothing that it boots, and why that takes so long.
    fn tell_boot(&self, has_printed: bool) {
        let Ok(Observation { state: State::Initializing, run, .. }) = self.instance.observe() else { return };
        if has_printed {
            return;
        }
        let how = match run.map(|run| run.accelerator) {
            Some(Accelerator::Tcg) => " (emulated, slow: hypeman doctor)",
            _ => "",
        };
        // To a raw terminal too, which goes to the beginning of a line only when told to.
        let _ = write!(std::io::stderr(), "hypeman: booting{how}\r\n");
    }

    fn view(&self, raw: bool) -> View {
        let options = Options { source: Source::App, json: false, timestamps: false, raw, until: None };
        View::new(options, &self.instance.record.name)
    }

    /// Passes on what is typed, for as long as it is waited for; and waits for the keys that
    /// detach.
    fn typing(&mut self) -> (Waiting, Waiting) {
        let Some((typed, guest)) = self.typed.take() else {
            return (Box::pin(pending()), Box::pin(pending()));
        };
        let Typed { keys, detached } = typed;
        let typing = keyboard::pass_on(keys, guest);
        let detached = async {
            if detached.await.is_err() {
                pending().await // an end of the input is no wish to leave
            }
        };
        (Box::pin(typing), Box::pin(detached))
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()>>>;

/// Waits for the end, and gives `watch` back.
async fn ended(mut watch: Watch) -> (Result<End>, Watch) {
    (watch.end().await.map_err(Into::into), watch)
}

fn exit_code(end: &End) -> ExitCode {
    if end.reason == Reason::Standby {
        output::complain(&end.message);
        return ExitCode::from(NOT_ENDED);
    }
    if !matches!(end.reason, Reason::Exited | Reason::Signaled | Reason::GuestShutdown)
        || end.exit_code == 125
    {
        output::complain(&end.message);
    }
    ExitCode::from(u8::try_from(end.exit_code).unwrap_or(u8::MAX))
}

/// The signals that a terminal or a supervisor sends to end a program.
pub(crate) struct Interrupts {
    signals: [(i32, Signal); 4],
}

impl Interrupts {
    pub(crate) fn new() -> Result<Interrupts> {
        let listen = |kind: SignalKind| Ok::<_, std::io::Error>((kind.as_raw_value(), signal(kind)?));
        let signals = [
            listen(SignalKind::hangup())?,
            listen(SignalKind::interrupt())?,
            listen(SignalKind::quit())?,
            listen(SignalKind::terminate())?,
        ];
        Ok(Interrupts { signals })
    }

    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> i32 {
        let [hangup, interrupt, quit, terminate] = &mut self.signals;
        tokio::select! {
            _ = hangup.1.recv() => hangup.0,
            _ = interrupt.1.recv() => interrupt.0,
            _ = quit.1.recv() => quit.0,
            _ = terminate.1.recv() => terminate.0,
        }
    }
}
