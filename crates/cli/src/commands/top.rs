//! top: the processes of a guest.

use std::time::Duration;

use anyhow::Result;
use hypeman_agent::protocol::Processes;
use hypeman_host::Host;

use crate::args::Format;
use crate::background::runtime;
use crate::escape::short;
use crate::{agent, output};

pub(crate) fn top(host: &Host, name: &str, format: Format) -> Result<()> {
    let instance = host.find(name)?;
    let listed = runtime()?.block_on(host.guest(&instance).top());
    let Processes { processes } = listed.map_err(|error| agent::explained(error, &instance))?;
    let header = ["PID", "PPID", "USER", "STATE", "CPU", "RSS", "AGE", "COMMAND"];
    output::list(format, &header, &processes, |process| {
        vec![
            process.pid.to_string(),
            process.ppid.to_string(),
            process.user.clone().unwrap_or_else(|| process.uid.to_string()),
            process.state.to_string(),
            humantime::format_duration(Duration::from_millis(process.cpu_ms)).to_string(),
            indicatif::HumanBytes(process.rss).to_string(),
            humantime::format_duration(Duration::from_secs(process.age_ms / 1000)).to_string(),
            short(&process.command, 80),
        ]
    })
}
