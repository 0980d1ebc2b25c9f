//! ps: the instances and their states.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_agent::protocol::HealthStatus;
use hypeman_instance::network::look_after;
use hypeman_instance::observe::{Observation, observe_all};
use hypeman_instance::store::Instance;
use hypeman_record::network::Published;
use hypeman_record::state::State;
use serde::Serialize;

use super::adopt::with_shim;
use crate::args::Format;
use crate::context::{Context, hypeman};
use crate::output;

/// What a listing tells of an instance.
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
}

/// Lists the instances; fails when there is one of which nothing can be told.
pub(crate) fn ps(context: &Context, all: bool, quiet: bool, format: Format) -> Result<ExitCode> {
    look_after(&context.instances, &hypeman()?);
    let (instances, damaged) = context.instances.list()?;
    let mut code = if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    for error in damaged {
        output::complain(error);
    }
    let mut rows = Vec::new();
    for (instance, seen) in instances.iter().zip(observe_all(&instances)) {
        match with_shim(instance, seen).map(|seen| row(instance, seen)) {
            Ok(row) if all || is_shown(row.state) => rows.push(row),
            Ok(_) => {}
            Err(error) => {
                output::complain(output::explain(&error.into()));
                code = ExitCode::FAILURE;
            }
        }
    }
    if quiet {
        output::lines(rows.iter().map(|row| &row.id))?;
        return Ok(code);
    }
    let header = ["ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS"];
    output::list(format, &header, &rows, |row| {
        vec![
            row.id.chars().take(12).collect(),
            row.name.clone(),
            output::short(row.image.as_deref().unwrap_or("-"), 40),
            output::short(row.command.as_deref().unwrap_or("-"), 30),
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

fn row(instance: &Instance, seen: Observation) -> Row {
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
    }
}
