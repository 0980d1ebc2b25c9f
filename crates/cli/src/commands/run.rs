//! run: create, start, and in the foreground be the program's terminal.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use hypeman_console::reader::{Reader, Start};
use hypeman_guest::config::Mode;
use hypeman_instance::client::Client;
use hypeman_instance::start::Started;
use hypeman_instance::store::Instance;
use hypeman_instance::{delete, start, stop};
use hypeman_record::end::{End, Reason};
use hypeman_record::names;
use hypeman_record::protocol::Request;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{create, in_background, logs, runtime};
use crate::args::{RunArguments, Source};
use crate::context::{Context, hypeman, programs};
use crate::output;
use crate::view::{Options, View};

pub(crate) fn run(context: &Context, arguments: &RunArguments) -> Result<ExitCode> {
    let programs = programs()?;
    let options = create::options(context, &arguments.create)?;
    let runtime = runtime()?;
    let _runtime = runtime.enter();
    // From here on an interrupt is ours to handle: the VM is being made.
    let interrupts = if arguments.detach { None } else { Some(Interrupts::new()?) };
    let instance = hypeman_instance::create::create(&context.instances, &options)?;
    let started = start::start(&context.instances, &instance, &programs).inspect_err(|_| {
        let _ = delete::remove(&instance, true); // what never ran is not left behind
    })?;
    let client = match started {
        Started::Now(client) => client,
        // Someone was quicker to start what we have just made.
        Started::Already => Client::connect(&instance.record.name, &instance.directory)?,
    };
    match interrupts {
        None => create::print_id(&instance).map(|()| ExitCode::SUCCESS),
        Some(interrupts) => runtime.block_on(foreground(&instance, client, interrupts, arguments.raw)),
    }
}

/// Shows what the program prints, passes signals on, and ends as it does.
async fn foreground(
    instance: &Instance,
    mut client: Client,
    mut interrupts: Interrupts,
    raw: bool,
) -> Result<ExitCode> {
    let log = instance.directory.join(names::APP_LOG);
    let mut watch = logs::watch(&log)?;
    let mut reader = Reader::open(&log, Start::default())?;
    let options = Options { source: Source::App, json: false, timestamps: false, raw, until: None };
    let mut shown = logs::Output::new(View::new(options, &instance.record.name))?;
    let (waited_for, hypeman) = (instance.clone(), hypeman()?);
    let mut ended = in_background(move || {
        let asked = client.ask_for_end(&Request::Wait).map(|outcome| outcome.end);
        // A shim that was killed is followed by another.
        let end = asked.or_else(|_| stop::wait(&waited_for, &hypeman));
        (end, client) // as long as the client lives, the logs of an instance that removes itself do too
    });
    let mut interrupted = 0;
    let mut reader_gone = output::reader_gone();
    let (end, client) = loop {
        let _ = shown.show(&mut reader)?;
        tokio::select! {
            changed = watch.changed() => changed?,
            number = interrupts.next() => {
                interrupted += 1;
                if let Err(error) = pass_on(instance, number, interrupted) {
                    output::complain(output::explain(&error));
                }
            }
            // docker's way: whoever stops reading leaves the VM running.
            _ = &mut reader_gone => {
                let name = &instance.record.name;
                output::complain(format_args!("nobody reads any more; {name} runs on (hypeman logs -f {name})"));
                return Ok(ExitCode::SUCCESS);
            }
            joined = &mut ended => break joined.context("wait for the VM")?,
        }
    };
    let _ = shown.show(&mut reader)?;
    shown.finish()?;
    drop(client);
    if instance.record.settings.auto_remove && end.as_ref().is_ok_and(|end| end.reason != Reason::Standby) {
        stop::wait_for_removal(instance)?; // as docker: what was to be removed is gone when we are
    }
    Ok(exit_code(&end?))
}

fn exit_code(end: &End) -> ExitCode {
    if end.reason == Reason::Standby {
        output::complain(&end.message); // as when nobody reads any more: it goes on without us
        return ExitCode::SUCCESS;
    }
    if !matches!(end.reason, Reason::Exited | Reason::Signaled | Reason::GuestShutdown)
        || end.exit_code == 125
    {
        output::complain(&end.message);
    }
    ExitCode::from(u8::try_from(end.exit_code).unwrap_or(u8::MAX))
}

/// The first signal is the program's (or the power button, where no init of ours is); from the second on it is the VM's
/// end.
fn pass_on(instance: &Instance, number: i32, times: u32) -> Result<()> {
    let exec = instance.record.command.as_ref().is_some_and(|command| command.mode == Mode::Exec);
    let result = match (times, exec) {
        (1, true) => stop::signal(instance, number),
        (1, false) => stop::power_button(instance),
        _ => stop::kill_and_go_on(instance),
    };
    match result {
        // It has ended meanwhile: we shall hear of that next.
        Err(hypeman_instance::Error::State { .. } | hypeman_instance::Error::NotFound(_)) => Ok(()),
        other => Ok(other?),
    }
}

/// The signals that a terminal or a supervisor sends to end a program.
struct Interrupts {
    signals: [(i32, Signal); 4],
}

impl Interrupts {
    fn new() -> Result<Interrupts> {
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
    async fn next(&mut self) -> i32 {
        let [hangup, interrupt, quit, terminate] = &mut self.signals;
        tokio::select! {
            _ = hangup.1.recv() => hangup.0,
            _ = interrupt.1.recv() => interrupt.0,
            _ = quit.1.recv() => quit.0,
            _ = terminate.1.recv() => terminate.0,
        }
    }
}
