//! The arguments of `logs`.

use std::time::SystemTime;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use crate::{names, time};

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Go on with what they print until they end
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Go on over their ends and starts, until they are removed
    #[arg(short = 'F', long)]
    pub(crate) follow_restarts: bool,
    /// Only the last lines; `all` or a negative number for all
    #[arg(short = 'n', long, default_value = "all", value_parser = tail, allow_negative_numbers = true)]
    pub(crate) tail: Tail,
    /// Only what was written since: 10m ago, or at 2026-11-25T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub(crate) since: Option<SystemTime>,
    /// Only what was written until then
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub(crate) until: Option<SystemTime>,
    /// Put before each line when it was written; `-` where that is not known
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Show a terminal what the guest printed as it is, also what moves the cursor or sets the title
    #[arg(long)]
    pub(crate) raw: bool,
    /// Do not put the name before each line of several instances
    #[arg(long)]
    pub(crate) no_log_prefix: bool,
    /// Which log
    #[arg(long, value_enum, default_value_t = Source::App)]
    pub(crate) source: Source,
    /// What was printed, or one JSON object a line
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) format: LogFormat,
    /// Names, or beginnings of ids
    #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(names::instances))]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// What the guest printed on its console
    App,
    /// What the VMM printed
    Vmm,
    /// What hypeman did, and why
    Hypeman,
}

/// How much of a log to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    All,
    Lines(usize),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        // As with docker and kubectl, where -1 is the default.
        _ if text.parse().is_ok_and(|number: i64| number < 0) => Ok(Tail::All),
        _ => text.parse().map(Tail::Lines).map_err(|_| "give a number of lines, or `all`".to_owned()),
    }
}
