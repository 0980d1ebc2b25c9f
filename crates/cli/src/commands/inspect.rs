//! inspect: the record and the truth, as JSON.

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::views::InstanceView;
use hypeman_record::state::State;
use serde_json::{Value as Json, json};

use crate::args::Names;
use crate::output;
use crate::template::Form;

pub(crate) fn inspect(host: &Host, template: Option<&str>, names: &Names) -> Result<()> {
    let documents =
        names.names.iter().map(|name| host.inspect(name)).collect::<hypeman_host::Result<Vec<_>>>()?;
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
fn for_template(document: &InstanceView) -> Result<Json> {
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
