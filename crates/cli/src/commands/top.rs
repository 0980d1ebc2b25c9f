//! top: the processes of a guest.

use std::time::Duration;

use anyhow::Result;
use hypeman_agent::protocol::{Processes, Request};

use crate::args::Format;
use crate::background::runtime;
use crate::context::Context;
use crate::escape::short;
use crate::{agent, output};

pub(crate) fn top(context: &Context, name: &str, format: Format) -> Result<()> {
    let instance = context.instances.find(name)?;
    let Processes { processes } = runtime()?.block_on(agent::ask(&instance, &Request::Top))?;
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
