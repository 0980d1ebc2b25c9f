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
mod serve;
mod snapshot;
mod stat;
mod stats;
mod top;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::CommandFactory;
use hypeman_host::{Config, Host};

use crate::args::{Arguments, Command, Format, ImageCommand};
use crate::{output, trace};

/// Carries out a command.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    // This one wants no data directory.
    if let Command::Completion { shell } = &arguments.command {
        return completion::completion(*shell);
    }
    if let Command::Man { directory } = &arguments.command {
        clap_mangen::generate_to(Arguments::command(), directory)
            .with_context(|| format!("write manual pages into {}", directory.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Version { format } = &arguments.command {
        return version(format.format);
    }
    // These find their data directory in a configuration too.
    let command = match arguments.command {
        Command::Serve(command) => return serve::serve(arguments.data_dir, &command),
        Command::Token(command) => return serve::token(arguments.data_dir, command),
        command => command,
    };
    trace::show(None, None);
    let may_begin = command.may_begin();
    let config = Config::from_env(arguments.data_dir)?;
    let host = Host::open(Config { must_exist: config.must_exist && !may_begin, ..config })?;
    match command {
        Command::Doctor { program, format } => {
            return doctor::doctor(&host, program.cloud_hypervisor.as_deref(), format.format);
        }
        Command::Kernel(command) => kernel::kernel(&host, command)?,
        Command::Pull { limit, reference } => image::pull(&host, &limit, &reference)?,
        Command::Image(command) => return image::image(&host, command),
        Command::Run(arguments) => return run::run(&host, &arguments),
        Command::Create(arguments) => create::create(&host, &arguments)?,
        Command::Start(names) => return lifecycle::start(&host, &names),
        Command::Stop(arguments) => return lifecycle::stop(&host, &arguments),
        Command::Kill { signal, names } => return lifecycle::kill(&host, signal.as_deref(), &names),
        Command::Restart(arguments) => return lifecycle::restart(&host, &arguments),
        Command::Pause(names) => return lifecycle::pause(&host, &names),
        Command::Resume(names) => return lifecycle::resume(&host, &names),
        Command::Standby(arguments) => return lifecycle::standby(&host, &arguments),
        Command::Restore(names) => return lifecycle::restore(&host, &names),
        Command::Fork { state, labels, source, name } => {
            fork::fork(&host, &source, name, state, &labels)?;
        }
        Command::Snapshot(command) => return snapshot::snapshot(&host, command),
        Command::Exec(arguments) => return exec::exec(&host, &arguments),
        Command::Cp(arguments) => copy::copy(&host, &arguments)?,
        Command::Export(arguments) => copy::export(&host, &arguments)?,
        Command::Stat { follow, format, name, path } => {
            return stat::stat(&host, &name, &path, follow, format.format);
        }
        Command::Top { format, name } => top::top(&host, &name, format.format)?,
        Command::Attach(arguments) => return attach::attach(&host, &arguments),
        Command::Adopt(arguments) => return adopt::adopt(&host, &arguments),
        Command::UpgradeShims { names } => return adopt::upgrade(&host, &names),
        Command::Stats { no_stream, format, names } => {
            stats::stats(&host, &names, no_stream, format.format)?;
        }
        Command::Port { format, name, port } => {
            return port::port(&host, &name, port.as_deref(), format.format);
        }
        Command::Network(command) => return network::network(&host, command),
        Command::ResumeAll => return lifecycle::resume_all(&host),
        Command::Wait { until: None, timeout: None, names } => return lifecycle::wait(&host, &names),
        Command::Wait { until, timeout, names } => {
            return lifecycle::wait_for(&host, until, timeout, &names);
        }
        Command::Ps { all, quiet, filter, no_trunc, format } => {
            let options = ps::Options { all, quiet, filters: filter, whole: no_trunc, format: format.format };
            return ps::ps(&host, &options);
        }
        Command::Inspect { format, names } => inspect::inspect(&host, format.as_deref(), &names)?,
        Command::Rename { name, new } => host.rename(&name, &new)?,
        Command::Images { quiet, format } => {
            return image::image(&host, ImageCommand::Ls { quiet, format });
        }
        Command::Version { .. } => {}
        Command::Logs(arguments) => logs::logs(&host, &arguments)?,
        Command::Rm { force, names } => return lifecycle::remove(&host, force, &names),
        Command::Completion { .. } | Command::Man { .. } | Command::Serve(_) | Command::Token(_) => {}
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
