//! run: create, start, and in the foreground be the program's terminal.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Result, bail};
use hypeman_console::reader::Start;
use hypeman_instance::client::Client;
use hypeman_instance::spawn::Started;
use hypeman_instance::{delete, start};

use super::foreground::{Foreground, Interrupts, OnSignal};
use super::{create, lifecycle};
use crate::args::RunArguments;
use crate::background::runtime;
use crate::context::{Context, programs};
use crate::keyboard::{self, RawTerminal};

pub(crate) fn run(context: &Context, arguments: &RunArguments) -> Result<ExitCode> {
    let (types, tty) = (arguments.create.interactive && !arguments.detach, arguments.create.tty);
    if types && tty && !std::io::stdin().is_terminal() {
        bail!(
            "standard input is no terminal; leave out -t to give the program what comes from a pipe or file"
        );
    }
    let programs = programs()?;
    let options = create::options(context, &arguments.create)?;
    let runtime = runtime()?;
    let _runtime = runtime.enter();
    // From here on an interrupt is ours to handle: the VM is being made.
    let interrupts = if arguments.detach { None } else { Some(Interrupts::new()?) };
    let instance = create::make(context, &options)?;
    let started = start::start(&context.instances, &instance, &programs).inspect_err(|_| {
        let _ = delete::remove(&instance, true); // what never ran is not left behind
    })?;
    let connect = || Client::connect(&instance.record.name, &instance.directory);
    let client = match started {
        Started::Now(client) => client,
        // Someone was quicker to start what we have just made.
        Started::Already => connect()?,
    };
    let Some(interrupts) = interrupts else {
        if arguments.wait {
            lifecycle::wait_until_up(&instance)?;
        }
        return create::print_id(&instance).map(|()| ExitCode::SUCCESS);
    };
    let guest = if types { Some(connect()?.attach()?) } else { None };
    let terminal = if types && tty { RawTerminal::take(true)? } else { None };
    let detach = terminal.is_some().then(|| arguments.detach_keys.detach_keys.clone());
    let foreground = Foreground {
        instance: &instance,
        start: Start::default(),
        raw: arguments.raw || tty,
        typed: guest.map(|guest| (keyboard::read(detach, !tty), guest)),
        on_signal: if terminal.is_some() { OnSignal::LeaveUnlessTyped } else { OnSignal::PassOn },
        terminal,
        boots: true,
    };
    runtime.block_on(foreground.stay(client, interrupts))
}
