//! adopt: a VM whose shim was killed gets another. All commands that look at an instance do so on their way. And upgrade-shims: a
//! VM gets a shim of this program.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_instance::adopt;
use hypeman_instance::adopt::{adopt, is_of_another_program};
use hypeman_instance::error::Needs;
use hypeman_instance::instance::Instance;
use hypeman_instance::observe::Observation;

use crate::args::AdoptArguments;
use crate::context::{Context, hypeman};
use crate::each::{each, each_at_once};
use crate::output;

pub(crate) fn command(context: &Context, arguments: &AdoptArguments) -> Result<ExitCode> {
    let hypeman = hypeman()?;
    if arguments.all {
        let (instances, _) = context.instances.list()?;
        let names: Vec<_> = instances.iter().map(|instance| instance.record.name.clone()).collect();
        return Ok(each(&names, |name| match adopt(&context.instances.find(name)?, &hypeman)? {
            true => output::line(name),
            false => Ok(()),
        }));
    }
    Ok(each_at_once(&arguments.names, |name| {
        let instance = context.instances.find(name)?;
        if !adopt(&instance, &hypeman)? {
            let state = instance.observe()?.state;
            if !state.is_active() {
                return Err(instance.refused(state, Needs::Running).into());
            }
        }
        Ok(())
    }))
}

/// Those that are named, or all whose shim is of another program.
pub(crate) fn upgrade(context: &Context, names: &[String]) -> Result<ExitCode> {
    let hypeman = hypeman()?;
    let (instances, _) = context.instances.list()?;
    let others = instances.iter().filter(|instance| is_of_another_program(instance, &hypeman));
    let others: Vec<_> = others.map(|instance| instance.record.name.clone()).collect();
    let names = if names.is_empty() { &others } else { names };
    Ok(each_at_once(names, |name| Ok(adopt::upgrade(&context.instances.find(name)?, &hypeman)?)))
}

/// The instance with this name or id. Its VM has a shim then, if it can have one.
pub(crate) fn find(context: &Context, name: &str) -> Result<Instance> {
    let instance = context.instances.find(name)?;
    take_care_of(&instance);
    Ok(instance)
}

/// What is true of an instance. Its VM has a shim then, if it can have one.
pub(crate) fn observe(instance: &Instance) -> hypeman_instance::Result<Observation> {
    with_shim(instance, instance.observe())
}

/// The same, when it was looked at already.
pub(crate) fn with_shim(
    instance: &Instance,
    seen: hypeman_instance::Result<Observation>,
) -> hypeman_instance::Result<Observation> {
    let lacks_one = seen.as_ref().is_ok_and(|seen| seen.orphaned);
    if lacks_one && take_care_of(instance) { instance.observe() } else { seen }
}

/// Gives a VM without a shim another. That it cannot be had is told, and keeps nobody from looking at the VM. Whether it has one.
fn take_care_of(instance: &Instance) -> bool {
    match hypeman().and_then(|hypeman| Ok(adopt(instance, &hypeman)?)) {
        Ok(_) => true,
        Err(error) => {
            output::complain(output::explain(&error));
            false
        }
    }
}
