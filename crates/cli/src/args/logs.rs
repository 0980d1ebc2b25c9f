//! The arguments of `logs`.

use std::time::SystemTime;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use crate::{names, time};

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Follow output until the instances end
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Follow output across restarts, until the instances are removed
    #[arg(short = 'F', long)]
    pub(crate) follow_restarts: bool,
    /// Number of last lines to show; `all` or a negative number for all
    #[arg(short = 'n', long, default_value = "all", value_parser = tail, allow_negative_numbers = true)]
    pub(crate) tail: Tail,
    /// Show output since a time: 10m or 2026-11-25T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub(crate) since: Option<SystemTime>,
    /// Show output until a time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub(crate) until: Option<SystemTime>,
    /// Show the time of each line; `-` where it is not known
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Do not escape control sequences on a terminal
    #[arg(long)]
    pub(crate) raw: bool,
    /// Do not prefix lines with the instance's name
    #[arg(long)]
    pub(crate) no_log_prefix: bool,
    /// Log to show
    #[arg(long, value_enum, default_value_t = Source::App)]
    pub(crate) source: Source,
    /// Output format: the text, or one JSON object a line
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) format: LogFormat,
    /// Names, ids or id prefixes
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
    /// The guest's console
    App,
    /// Output of the VMM
    Vmm,
    /// Log of hypeman's own actions, with reasons
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
