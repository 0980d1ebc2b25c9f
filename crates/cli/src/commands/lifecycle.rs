//! start, stop, kill, restart, pause, resume, standby, restore, wait and rm: each for several instances.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hypeman_instance::client::Outcome;
use hypeman_instance::instance::Instance;
use hypeman_instance::signal::signal_number;
use hypeman_instance::{compress, delete, pause, standby, start, stop};
use hypeman_record::end::{End, Reason};
use hypeman_record::guest::health::HealthStatus;
use hypeman_record::state::State;

use super::adopt::find;
use crate::args::{Names, StandbyArguments, StopArguments, WaitFor};
use crate::context::{Context, hypeman, programs};
use crate::each::{each, each_at_once};
use crate::output;

/// Time between two looks at an instance that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// SIGKILL's number: it ends the VM, whatever runs in it.
const KILL: i32 = 9;

pub(crate) fn start(context: &Context, names: &Names) -> Result<ExitCode> {
    let programs = programs()?;
    Ok(each(&names.names, |name| {
        start::start(&context.instances, &find(context, name)?, &programs)?;
        output::line(name)
    }))
}

pub(crate) fn stop(context: &Context, arguments: &StopArguments) -> Result<ExitCode> {
    let hypeman = hypeman()?;
    Ok(each_at_once(&arguments.names.names, |name| {
        let outcome = stop::stop(&find(context, name)?, Duration::from_secs(arguments.time), &hypeman)?;
        // Whoever asked it to end wants to know that it did not.
        if let Some(Outcome { end: End { reason: Reason::Killed, message, .. }, .. }) = &outcome {
            output::complain(format_args!("{name}: {message}"));
        }
        tell_unwritten(name, outcome.as_ref());
        Ok(())
    }))
}

pub(crate) fn kill(context: &Context, signal: Option<&str>, names: &Names) -> Result<ExitCode> {
    let signal = signal.map_or(Ok(KILL), signal_number)?;
    Ok(each_at_once(&names.names, |name| {
        let instance = find(context, name)?;
        if signal == KILL {
            tell_unwritten(name, stop::kill(&instance)?.as_ref());
        } else {
            stop::signal(&instance, signal)?;
        }
        Ok(())
    }))
}

/// A VM may have ended while the disk has no room for what it printed.
fn tell_unwritten(name: &str, outcome: Option<&Outcome>) {
    if outcome.is_some_and(|outcome| outcome.unwritten) {
        output::complain(format_args!(
            "{name}: the VM has ended; what it printed is still being written, and waits for room if the disk is full"
        ));
    }
}

pub(crate) fn restart(context: &Context, arguments: &StopArguments) -> Result<ExitCode> {
    let programs = programs()?;
    Ok(each_at_once(&arguments.names.names, |name| {
        let instance: Instance = find(context, name)?;
        stop::stop(&instance, Duration::from_secs(arguments.time), &programs.hypeman)?;
        // One that someone else has started since we stopped it was restarted.
        start::start(&context.instances, &instance, &programs)?;
        Ok(())
    }))
}

pub(crate) fn pause(context: &Context, names: &Names) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| Ok(pause::pause(&find(context, name)?)?)))
}

pub(crate) fn resume(context: &Context, names: &Names) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| Ok(pause::resume(&find(context, name)?)?)))
}

pub(crate) fn standby(context: &Context, arguments: &StandbyArguments) -> Result<ExitCode> {
    let hypeman = hypeman()?;
    Ok(each_at_once(&arguments.names.names, |name| {
        let instance = context.instances.find(name)?;
        standby::standby(&instance, &hypeman)?;
        match arguments.compression.algorithm() {
            Some(algorithm) => Ok(compress::begin(&instance.directory, algorithm, &hypeman)?),
            None => Ok(()),
        }
    }))
}

pub(crate) fn restore(context: &Context, names: &Names) -> Result<ExitCode> {
    let programs = programs()?;
    Ok(each_at_once(&names.names, |name| {
        standby::restore(&context.instances, &context.instances.find(name)?, &programs)?;
        Ok(())
    }))
}

pub(crate) fn wait(context: &Context, names: &Names) -> Result<ExitCode> {
    Ok(each(&names.names, |name| {
        let end = stop::wait(&find(context, name)?, &hypeman()?)?;
        output::line(&end.exit_code.to_string())
    }))
}

/// Waits until instances are what is waited for; without that, for their end.
pub(crate) fn wait_for(
    context: &Context,
    until: Option<WaitFor>,
    timeout: Option<Duration>,
    names: &Names,
) -> Result<ExitCode> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    Ok(each_at_once(&names.names, |name| reach(&find(context, name)?, until, deadline)))
}

/// Waits until an instance runs, and is healthy if it has a health check.
pub(super) fn wait_until_up(instance: &Instance) -> Result<()> {
    let has_check = instance.record.command.as_ref().is_some_and(|command| command.health.is_some());
    reach(instance, Some(if has_check { WaitFor::Healthy } else { WaitFor::Running }), None)
}

/// Waits until an instance is what is waited for.
fn reach(instance: &Instance, until: Option<WaitFor>, deadline: Option<Instant>) -> Result<()> {
    let name = &instance.record.name;
    loop {
        let seen = instance.observe()?;
        let health = seen.health.as_ref().map(|health| health.status);
        let is_reached = match until {
            Some(WaitFor::Running) => seen.state == State::Running,
            Some(WaitFor::Healthy) => health == Some(HealthStatus::Healthy),
            None => seen.end.is_some(),
        };
        if is_reached {
            return Ok(());
        }
        match (until, seen.end) {
            (Some(_), Some(end)) => bail!("{name}: it has ended: {}", end.message),
            (Some(WaitFor::Healthy), None) if seen.state == State::Running && health.is_none() => {
                bail!("{name}: it has no health check; give --health-cmd")
            }
            _ => {}
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            bail!("{name}: it is {} when the time is up", seen.state)
        }
        std::thread::sleep(LOOK);
    }
}

pub(crate) fn remove(context: &Context, force: bool, names: &Names) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| Ok(delete::remove(&context.instances.find(name)?, force)?)))
}
