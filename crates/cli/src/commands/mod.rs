//! The commands, one a file, and their dispatch.

mod adopt;
mod attach;
mod completion;
mod copy;
mod create;
mod doctor;
mod exec;
mod foreground;
mod fork;
mod image;
mod inspect;
mod kernel;
mod lifecycle;
mod logs;
mod network;
mod port;
mod ps;
mod run;
mod snapshot;
mod stat;
mod stats;
mod top;

use std::process::ExitCode;

use anyhow::Result;

use self::adopt::find;
use crate::args::{Arguments, Command, Format, ImageCommand};
use crate::context::Context;
use crate::output;

/// Carries out a command.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    // This one wants no data directory.
    if let Command::Completion { shell } = &arguments.command {
        return completion::completion(*shell);
    }
    if let Command::Version { format } = &arguments.command {
        return version(format.format);
    }
    let context = Context::new(arguments.data_dir, arguments.command.may_begin())?;
    match arguments.command {
        Command::Doctor { program, format } => {
            return doctor::doctor(&context, program.cloud_hypervisor.as_deref(), format.format);
        }
        Command::Kernel(command) => kernel::kernel(&context, command)?,
        Command::Pull { limit, reference } => image::pull(&context, &limit, &reference)?,
        Command::Image(command) => return image::image(&context, command),
        Command::Run(arguments) => return run::run(&context, &arguments),
        Command::Create(arguments) => create::print_id(&create::create(&context, &arguments)?)?,
        Command::Start(names) => return lifecycle::start(&context, &names),
        Command::Stop(arguments) => return lifecycle::stop(&context, &arguments),
        Command::Kill { signal, names } => return lifecycle::kill(&context, signal.as_deref(), &names),
        Command::Restart(arguments) => return lifecycle::restart(&context, &arguments),
        Command::Pause(names) => return lifecycle::pause(&context, &names),
        Command::Resume(names) => return lifecycle::resume(&context, &names),
        Command::Standby(arguments) => return lifecycle::standby(&context, &arguments),
        Command::Restore(names) => return lifecycle::restore(&context, &names),
        Command::Fork { state, source, name } => fork::fork(&context, &source, &name, state)?,
        Command::Snapshot(command) => return snapshot::snapshot(&context, command),
        Command::Exec(arguments) => return exec::exec(&context, &arguments),
        Command::Cp(arguments) => copy::copy(&context, &arguments)?,
        Command::Export(arguments) => copy::export(&context, &arguments)?,
        Command::Stat { follow, format, name, path } => {
            return stat::stat(&context, &name, &path, follow, format.format);
        }
        Command::Top { format, name } => top::top(&context, &name, format.format)?,
        Command::Attach(arguments) => return attach::attach(&context, &arguments),
        Command::Adopt(arguments) => return adopt::command(&context, &arguments),
        Command::UpgradeShims { names } => return adopt::upgrade(&context, &names),
        Command::Stats { no_stream, format, names } => {
            stats::stats(&context, &names, no_stream, format.format)?;
        }
        Command::Port { format, name, port } => {
            return port::port(&context, &name, port.as_deref(), format.format);
        }
        Command::Network(command) => return network::network(&context, command),
        Command::Wait { until: None, timeout: None, names } => return lifecycle::wait(&context, &names),
        Command::Wait { until, timeout, names } => {
            return lifecycle::wait_for(&context, until, timeout, &names);
        }
        Command::Ps { all, quiet, filter, no_trunc, format } => {
            let options = ps::Options { all, quiet, filters: filter, whole: no_trunc, format: format.format };
            return ps::ps(&context, &options);
        }
        Command::Inspect { format, names } => inspect::inspect(&context, format.as_deref(), &names)?,
        Command::Rename { name, new } => {
            hypeman_instance::rename::rename(&context.instances, &find(&context, &name)?, &new)?
        }
        Command::Images { quiet, format } => {
            return image::image(&context, ImageCommand::Ls { quiet, format });
        }
        Command::Version { .. } => {}
        Command::Logs(arguments) => logs::logs(&context, &arguments)?,
        Command::Rm { force, names } => return lifecycle::remove(&context, force, &names),
        Command::Completion { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer of `version`.
#[derive(serde::Serialize)]
struct Version {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

fn version(format: Format) -> Result<ExitCode> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    };
    output::list(format, &["VERSION", "OS", "ARCH"], &[version], |version| {
        vec![version.version.to_owned(), version.os.to_owned(), version.arch.to_owned()]
    })?;
    Ok(ExitCode::SUCCESS)
}
