//! attach: the console of a VM that runs, with its keyboard.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use hypeman_console::reader::Start;
use hypeman_host::Host;
use hypeman_record::guest::config::Mode;
use hypeman_record::record::CommandSpec;

use super::foreground::{Foreground, Interrupts, OnSignal};
use crate::args::AttachArguments;
use crate::background::runtime;
use crate::keyboard::{self, RawTerminal};
use crate::output;

pub(crate) fn attach(host: &Host, arguments: &AttachArguments) -> Result<ExitCode> {
    let instance = host.find_adopted(&arguments.name)?;
    let guest = host.keyboard(&instance)?;
    let runtime = runtime()?;
    let _runtime = runtime.enter();
    let interrupts = Interrupts::new()?;
    let name = &instance.record.name;
    let is_deaf = |command: &CommandSpec| command.mode == Mode::Exec && !command.stdio.interactive;
    let takes_no_input = instance.record.command.as_ref().is_some_and(is_deaf);
    let (terminal, typed) = if arguments.read_only || takes_no_input {
        if std::io::stdin().is_terminal() {
            let why =
                if takes_no_input { format!("{name}, which takes no input (run -i)") } else { name.clone() };
            output::complain(format_args!("attached to {why}; ctrl-c detaches"));
        }
        (None, None)
    } else {
        if std::io::stdin().is_terminal() {
            output::complain(format_args!(
                "attached to {name}; {} detaches",
                arguments.detach_keys.detach_keys.shown()
            ));
        }
        let is_piped = |command: &CommandSpec| command.mode == Mode::Exec && !command.stdio.tty;
        let terminal = RawTerminal::take(!instance.record.command.as_ref().is_some_and(is_piped))?;
        let detach = terminal.is_some().then(|| arguments.detach_keys.detach_keys.clone());
        (terminal, Some((keyboard::read(detach, false), guest)))
    };
    let foreground = Foreground {
        host,
        instance: &instance,
        start: Start { lines: Some(arguments.tail), since: None },
        raw: true,
        typed,
        terminal,
        on_signal: OnSignal::Leave,
        boots: false,
    };
    runtime.block_on(foreground.stay(host.watch(&instance.record.id)?, interrupts))
}
