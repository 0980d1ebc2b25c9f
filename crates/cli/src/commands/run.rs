//! run: create, start, and in the foreground be the program's terminal.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Result, bail};
use hypeman_console::reader::Start;
use hypeman_host::Host;
use hypeman_host::verbs::Started;

use super::foreground::{Foreground, Interrupts, OnSignal};
use super::{create, lifecycle};
use crate::args::RunArguments;
use crate::background::runtime;
use crate::keyboard::{self, RawTerminal};
use crate::progress::Terminal;

pub(crate) fn run(host: &Host, arguments: &RunArguments) -> Result<ExitCode> {
    let (types, tty) = (arguments.create.interactive && !arguments.detach, arguments.create.tty);
    if types && tty && !std::io::stdin().is_terminal() {
        bail!("standard input is not a terminal; omit -t");
    }
    host.programs()?; // before a long pull
    let prepared = host.prepare(&create::request(&arguments.create)?, &Terminal::new())?;
    create::tell(prepared.notes());
    let runtime = runtime()?;
    let _runtime = runtime.enter();
    // From here on an interrupt is ours to handle: the VM is being made.
    let interrupts = if arguments.detach { None } else { Some(Interrupts::new()?) };
    let (Started { instance, watch }, notes) = host.run(&prepared)?;
    create::tell(&notes);
    let Some(interrupts) = interrupts else {
        if arguments.wait {
            runtime.block_on(lifecycle::wait_until_up(&instance, watch))?;
        }
        return create::print_id(&instance).map(|()| ExitCode::SUCCESS);
    };
    let guest = if types { Some(host.keyboard(&instance)?) } else { None };
    let terminal = if types && tty { RawTerminal::take(true)? } else { None };
    let detach = terminal.is_some().then(|| arguments.detach_keys.detach_keys.clone());
    let foreground = Foreground {
        host,
        instance: &instance,
        start: Start::default(),
        raw: arguments.raw || tty,
        typed: guest.map(|guest| (keyboard::read(detach, !tty), guest)),
        on_signal: if terminal.is_some() { OnSignal::LeaveUnlessTyped } else { OnSignal::PassOn },
        terminal,
        boots: true,
    };
    runtime.block_on(foreground.stay(watch, interrupts))
}
