//! inspect: the record and the truth, as JSON.

use std::path::PathBuf;

use anyhow::Result;
use hypeman_instance::instance::Instance;
use hypeman_record::end::End;
use hypeman_record::guest::health::Health;
use hypeman_record::names;
use hypeman_record::network::Lease;
use hypeman_record::record::Record;
use hypeman_record::run::Run;
use hypeman_record::state::State;
use hypeman_snapshot::summary::Summary;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::adopt::observe;
use crate::args::Names;
use crate::context::Context;
use crate::output;
use crate::template::Form;

/// All that is known of an instance.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    record: Record,
    state: State,
    /// What there is to say of it, if it is not as it should be.
    state_reason: Option<String>,
    /// What the health checks of its program have shown, if there are any and it runs.
    health: Option<Health>,
    /// Whether a shim keeps its console.
    supervised: bool,
    /// The release of that shim, if it tells.
    shim_release: Option<String>,
    /// Its address, if it is on a network.
    lease: Option<Lease>,
    /// The last run: pids, VMM, accelerator in use, times.
    run: Option<Run>,
    /// How the last run ended, also when no shim was left to record it.
    end: Option<End>,
    /// The memory that it can go on from, if it has some.
    snapshot: Option<Summary>,
    directory: PathBuf,
    logs: Logs,
}

#[derive(Debug, Serialize)]
struct Logs {
    app: PathBuf,
    vmm: PathBuf,
    hypeman: PathBuf,
}

pub(crate) fn inspect(context: &Context, template: Option<&str>, names: &Names) -> Result<()> {
    let documents =
        names.names.iter().map(|name| document(context.instances.find(name)?)).collect::<Result<Vec<_>>>()?;
    match template {
        None | Some("json") => output::documents(&documents),
        Some(template) => {
            let form = Form::parse(template)?;
            let shown = documents.iter().map(|document| form.show(&for_template(document)?));
            output::lines(shown.collect::<Result<Vec<_>>>()?)
        }
    }
}

/// A document as a template sees it: ours, and beside it what `docker inspect` has and scripts ask
/// for.
fn for_template(document: &Document) -> Result<Json> {
    let mut all = serde_json::to_value(document)?;
    let (state, run, end) = (document.state, document.run.as_ref(), document.end.as_ref());
    let health = document.health.as_ref().map(|health| output::word(&health.status));
    let docker = json!({
        "Id": document.record.id,
        "Name": document.record.name,
        "Created": document.record.created,
        "Image": document.record.image.as_ref().map(|image| &image.digest),
        "State": {
            "Status": output::word(&state).to_lowercase(),
            "Running": state == State::Running,
            "Paused": state == State::Paused,
            "Pid": run.map(|run| run.vmm.pid),
            "ExitCode": end.map_or(0, |end| end.exit_code),
            "Error": end.map(|end| &end.message),
            "StartedAt": run.map(|run| run.started),
            "FinishedAt": run.and_then(|run| run.end.as_ref()).map(|end| end.at),
            "Health": {"Status": health.unwrap_or_else(|| "none".to_owned())},
        },
        "Config": {
            "Image": document.record.image.as_ref().map(|image| &image.reference),
            "Cmd": document.record.command.as_ref().map(|command| &command.argv),
            "Env": document.record.command.as_ref().map(|command| &command.env),
        },
        "NetworkSettings": {
            "IPAddress": document.lease.as_ref().map(|lease| lease.address),
            "MacAddress": document.lease.as_ref().map(|lease| &lease.mac),
        },
    });
    if let (Some(all), Json::Object(docker)) = (all.as_object_mut(), docker) {
        all.extend(docker);
    }
    Ok(all)
}

fn document(instance: Instance) -> Result<Document> {
    let seen = observe(&instance)?;
    let directory = instance.directory;
    Ok(Document {
        record: instance.record,
        state: seen.state,
        state_reason: seen.reason,
        health: seen.health,
        supervised: seen.supervised,
        shim_release: seen.shim_release,
        lease: hypeman_instance::network::lease(&directory)?,
        run: seen.run,
        end: seen.end,
        snapshot: Summary::of(&directory),
        logs: Logs {
            app: directory.join(names::APP_LOG),
            vmm: directory.join(names::VMM_LOG),
            hypeman: directory.join(names::HYPEMAN_LOG),
        },
        directory,
    })
}
