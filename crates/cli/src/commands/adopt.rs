//! adopt: a VM whose shim was killed gets another. All commands that look at an instance do so on their way. And upgrade-shims: a
//! VM gets a shim of this program.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_instance::adopt::{adopt, is_of_another_program, is_orphaned};
use hypeman_instance::error::Needs;
use hypeman_instance::store::Instance;
use hypeman_instance::{Error, adopt};

use super::each_at_once;
use crate::args::AdoptArguments;
use crate::context::{Context, hypeman};
use crate::output;

pub(crate) fn command(context: &Context, arguments: &AdoptArguments) -> Result<ExitCode> {
    let hypeman = hypeman()?;
    if arguments.all {
        let (instances, _) = context.instances.list()?;
        let orphaned = instances.iter().filter(|instance| is_orphaned(instance).unwrap_or_default());
        let ids: Vec<_> = orphaned.map(|instance| instance.record.name.clone()).collect();
        return Ok(each_at_once(&ids, |name| Ok(adopt(&context.instances.find(name)?, &hypeman).map(drop)?)));
    }
    Ok(each_at_once(&arguments.names, |name| {
        let instance = context.instances.find(name)?;
        if !adopt(&instance, &hypeman)? {
            let state = instance.observe()?.state;
            if !state.is_active() {
                return Err(Error::State { name: instance.record.name, state, needs: Needs::Running }.into());
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

/// Gives a VM without a shim another. That it cannot be had is told, and keeps nobody from looking at the VM.
pub(crate) fn take_care_of(instance: &Instance) -> bool {
    let adopted = hypeman().and_then(|hypeman| Ok(adopt(instance, &hypeman)?));
    adopted.unwrap_or_else(|error| {
        output::complain(output::explain(&error));
        false
    })
}
