//! ps: the instances and their states.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::instance::Instance;
use hypeman_host::observe::Observation;
use hypeman_record::guest::health::HealthStatus;
use hypeman_record::network::Published;
use hypeman_record::state::State;
use serde::Serialize;

use crate::args::Format;
use crate::escape::short;
use crate::filter::{Filter, Key};
use crate::{output, table};

/// Row of the list of instances.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    image: Option<String>,
    command: Option<String>,
    created: jiff::Timestamp,
    state: State,
    status: String,
    state_reason: Option<String>,
    health: Option<HealthStatus>,
    network: String,
    ports: Vec<Published>,
    exit_code: Option<i32>,
    tags: BTreeMap<String, String>,
}

/// How instances are listed.
#[derive(Debug)]
pub(crate) struct Options {
    /// Also those that do not run.
    pub(crate) all: bool,
    /// Only the ids.
    pub(crate) quiet: bool,
    pub(crate) filters: Vec<Filter>,
    /// Nothing is cut.
    pub(crate) whole: bool,
    pub(crate) format: Format,
}

/// Whether all filters hold; of several of one kind one is enough, but for labels, as docker has
/// it.
fn fits(filters: &[Filter], row: &Row) -> bool {
    filters.iter().all(|filter| {
        let is_enough = |other: &Filter| other.key == filter.key && holds(other, row);
        holds(filter, row) || filter.key != Key::Label && filters.iter().any(is_enough)
    })
}

/// Whether a filter holds of an instance.
fn holds(filter: &Filter, row: &Row) -> bool {
    let value = filter.value.as_str();
    match filter.key {
        Key::Name => row.name.contains(value),
        Key::Id => row.id.starts_with(value),
        Key::Status => {
            let ours = match value.to_lowercase().as_str() {
                "exited" | "dead" => "stopped".to_owned(), // docker's words
                other => other.to_owned(),
            };
            row.state.to_string().to_lowercase() == ours
        }
        Key::Ancestor => {
            row.image.as_deref().is_some_and(|image| image == value || image.split(':').next() == Some(value))
        }
        Key::Network => row.network == value,
        Key::Health => row.health.as_ref().map_or(value == "none", |health| output::word(health) == value),
        Key::Label => match value.split_once('=') {
            Some((key, value)) => row.tags.get(key).is_some_and(|found| found == value),
            None => row.tags.contains_key(value),
        },
        Key::Exited => row.exit_code.is_some_and(|code| code.to_string() == value),
    }
}

/// Whether filters ask for instances that do not run.
fn want_all(filters: &[Filter]) -> bool {
    filters.iter().any(|filter| matches!(filter.key, Key::Status | Key::Exited))
}

/// Lists the instances; fails when there is one of which nothing can be told.
pub(crate) fn ps(host: &Host, options: &Options) -> Result<ExitCode> {
    let Options { all, quiet, filters, whole, format } = options;
    host.clean_up_networks();
    let (instances, damaged) = host.list()?;
    let mut code = if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    for error in damaged {
        output::fail(&error.into());
    }
    let mut rows = Vec::new();
    for (instance, seen) in instances.iter().zip(host.observe_all(&instances)) {
        match seen.map(|seen| row(host, instance, seen)) {
            Ok(row) if (*all || want_all(filters) || is_shown(row.state)) && fits(filters, &row) => {
                rows.push(row)
            }
            Ok(_) => {}
            Err(error) => {
                output::fail(&error.into());
                code = ExitCode::FAILURE;
            }
        }
    }
    if *quiet {
        output::lines(rows.iter().map(|row| &row.id))?;
        return Ok(code);
    }
    let cut = |text: Option<&str>, width| match text {
        None => "-".to_owned(),
        Some(text) if *whole => text.to_owned(),
        Some(text) => short(text, width),
    };
    let header = ["ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS"];
    let width = if *whole { None } else { table::width() };
    output::list_within(width, *format, &header, &rows, |row| {
        vec![
            if *whole { row.id.clone() } else { row.id.chars().take(12).collect() },
            row.name.clone(),
            cut(row.image.as_deref(), 40),
            cut(row.command.as_deref(), 30),
            format!("{} ago", output::ago(row.created)),
            row.status.clone(),
            row.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ]
    })?;
    Ok(code)
}

/// Whether an instance is shown without `--all`: it runs, or goes on where it was, or nobody knows.
fn is_shown(state: State) -> bool {
    state.is_active() || matches!(state, State::Paused | State::Standby | State::Unknown)
}

fn row(host: &Host, instance: &Instance, mut seen: Observation) -> Row {
    if seen.state == State::Standby && seen.reason.is_none() {
        seen.reason = host.hindrance(instance).map(|why| format!("cannot go on: {why}"));
    }
    let run = seen.run.as_ref();
    let status = match (&seen.end, run) {
        (Some(end), _) => {
            let since =
                run.and_then(|run| run.end.as_ref()).map(|ended| format!(" {} ago", output::ago(ended.at)));
            format!("{} ({}){}", seen.state, end.exit_code, since.unwrap_or_default())
        }
        (None, Some(run)) if seen.state == State::Standby => {
            let since = run.end.as_ref().map(|ended| format!(" for {}", output::ago(ended.at)));
            format!("{}{}", seen.state, since.unwrap_or_default())
        }
        (None, Some(run)) if seen.state.is_active() => {
            let health = seen.health.as_ref().map(|health| format!(" ({})", output::word(&health.status)));
            format!("{} for {}{}", seen.state, output::ago(run.started), health.unwrap_or_default())
        }
        _ => seen.state.to_string(),
    };
    let published = run.filter(|_| seen.state.is_active()).map(|run| run.published.clone());
    let status = match &seen.reason {
        Some(reason) => format!("{status}: {reason}"),
        None => status,
    };
    let record = &instance.record;
    Row {
        id: record.id.clone(),
        name: record.name.clone(),
        image: record.image.as_ref().map(|image| image.reference.clone()),
        command: record.command.as_ref().map(|command| command.argv.join(" ")),
        created: record.created,
        state: seen.state,
        status,
        state_reason: seen.reason,
        health: seen.health.map(|health| health.status),
        network: record.settings.network.connection.to_string(),
        ports: published.unwrap_or_default(),
        exit_code: seen.end.map(|end| end.exit_code),
        tags: record.tags.clone(),
    }
}
