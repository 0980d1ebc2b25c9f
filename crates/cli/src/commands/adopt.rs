//! adopt: a VM whose shim was killed gets another. And upgrade-shims: a VM gets a shim of this
//! program.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::observe::observe_all;

use crate::args::AdoptArguments;
use crate::each::{each, each_at_once};
use crate::output;

pub(crate) fn adopt(host: &Host, arguments: &AdoptArguments) -> Result<ExitCode> {
    if !arguments.all {
        return Ok(each_at_once(&arguments.names, |name| Ok(host.adopt(name).map(drop)?)));
    }
    let (instances, _) = host.list()?;
    let seen = observe_all(&instances);
    let orphans =
        instances.iter().zip(seen).filter(|(_, seen)| seen.as_ref().is_ok_and(|seen| seen.orphaned));
    let names: Vec<_> = orphans.map(|(instance, _)| instance.record.name.clone()).collect();
    Ok(each(&names, |name| match host.adopt(name)? {
        true => output::line(name),
        false => Ok(()),
    }))
}

/// Those that are named, or all whose shim is of another program.
pub(crate) fn upgrade(host: &Host, names: &[String]) -> Result<ExitCode> {
    let (instances, _) = host.list()?;
    let others = instances.iter().filter(|instance| host.has_other_shim(instance));
    let others: Vec<_> = others.map(|instance| instance.record.name.clone()).collect();
    let names = if names.is_empty() { &others } else { names };
    Ok(each_at_once(names, |name| Ok(host.upgrade_shim(name)?)))
}
