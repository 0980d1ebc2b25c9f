//! start, stop, kill, restart, pause, resume, standby, restore, wait and rm: each for several
//! instances.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use hypeman_host::instance::Instance;
use hypeman_host::signal::signal_number;
use hypeman_host::watch::Watch;
use hypeman_host::{Host, Needs};
use hypeman_record::end::{End, Reason};
use hypeman_record::guest::health::HealthStatus;
use hypeman_record::state::State;
use hypeman_session::client::Outcome;

use crate::args::{Names, StandbyArguments, StopArguments, WaitFor};
use crate::background::runtime;
use crate::each::{each, each_at_once};
use crate::output;

pub(crate) fn start(host: &Host, names: &Names) -> Result<ExitCode> {
    Ok(each(&names.names, |name| {
        host.start(name)?;
        output::line(name)
    }))
}

pub(crate) fn resume_all(host: &Host) -> Result<ExitCode> {
    let ids: Vec<String> = host.interrupted()?.into_iter().map(|instance| instance.record.id).collect();
    Ok(each(&ids, |id| {
        let started = host.start(id)?;
        output::line(&started.instance.record.name)
    }))
}

pub(crate) fn stop(host: &Host, arguments: &StopArguments) -> Result<ExitCode> {
    Ok(each_at_once(&arguments.names.names, |name| {
        let outcome = host.stop(name, Duration::from_secs(arguments.time))?;
        // A stop that ended in a kill is reported.
        if let Some(Outcome { end: End { reason: Reason::Killed, message, .. }, .. }) = &outcome {
            output::complain(format_args!("{name}: {message}"));
        }
        tell_unwritten(name, outcome.as_ref());
        Ok(())
    }))
}

pub(crate) fn kill(host: &Host, signal: Option<&str>, names: &Names) -> Result<ExitCode> {
    let signal = signal.map(signal_number).transpose()?;
    Ok(each_at_once(&names.names, |name| {
        tell_unwritten(name, host.kill(name, signal)?.as_ref());
        Ok(())
    }))
}

/// A VM may have ended while the disk has no room for what it printed.
fn tell_unwritten(name: &str, outcome: Option<&Outcome>) {
    if outcome.is_some_and(|outcome| outcome.unwritten) {
        output::complain(format_args!(
            "{name}: the VM ended, but its output is still being written (is the disk full?)"
        ));
    }
}

pub(crate) fn restart(host: &Host, arguments: &StopArguments) -> Result<ExitCode> {
    let timeout = Duration::from_secs(arguments.time);
    Ok(each_at_once(&arguments.names.names, |name| Ok(host.restart(name, timeout).map(drop)?)))
}

pub(crate) fn pause(host: &Host, names: &Names) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| Ok(host.pause(name)?)))
}

pub(crate) fn resume(host: &Host, names: &Names) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| Ok(host.resume(name)?)))
}

pub(crate) fn standby(host: &Host, arguments: &StandbyArguments) -> Result<ExitCode> {
    let compression = arguments.compression.algorithm();
    Ok(each_at_once(&arguments.names.names, |name| Ok(host.standby(name, compression)?)))
}

pub(crate) fn restore(host: &Host, names: &Names) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| Ok(host.restore(name).map(drop)?)))
}

pub(crate) fn wait(host: &Host, names: &Names) -> Result<ExitCode> {
    let runtime = runtime()?;
    Ok(each(&names.names, |name| {
        let end = runtime.block_on(host.watch(name)?.end())?;
        if end.reason == Reason::Standby {
            return Err(host.find(name)?.refused(State::Standby, Needs::Running).into());
        }
        output::line(&end.exit_code.to_string())
    }))
}

/// Waits until instances are what is waited for; without that, for their end.
pub(crate) fn wait_for(
    host: &Host,
    until: Option<WaitFor>,
    timeout: Option<Duration>,
    names: &Names,
) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| {
        let instance = host.find(name)?;
        let mut watch = host.watch(&instance.record.id)?;
        runtime()?.block_on(async {
            let Some(timeout) = timeout else { return reach(&instance, &mut watch, until).await };
            match tokio::time::timeout(timeout, reach(&instance, &mut watch, until)).await {
                Ok(reached) => reached,
                Err(_) => bail!("{name}: timed out, the state is {}", instance.observe()?.state),
            }
        })
    }))
}

/// Waits until an instance runs, and is healthy if it has a health check.
pub(super) async fn wait_until_up(instance: &Instance, mut watch: Watch) -> Result<()> {
    let has_check = instance.record.command.as_ref().is_some_and(|command| command.health.is_some());
    reach(instance, &mut watch, Some(if has_check { WaitFor::Healthy } else { WaitFor::Running })).await
}

/// Waits until an instance is what is waited for.
async fn reach(instance: &Instance, watch: &mut Watch, until: Option<WaitFor>) -> Result<()> {
    let name = &instance.record.name;
    loop {
        let seen = watch.next().await?;
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
            (Some(_), Some(end)) => bail!("{name} ended: {}", end.message),
            (Some(WaitFor::Healthy), None) if seen.state == State::Running && health.is_none() => {
                bail!("{name} has no health check; create it with --health-cmd")
            }
            _ => {}
        }
    }
}

pub(crate) fn remove(host: &Host, force: bool, names: &Names) -> Result<ExitCode> {
    Ok(each_at_once(&names.names, |name| Ok(host.remove(name, force)?)))
}
