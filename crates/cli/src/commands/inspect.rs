//! inspect: the record and the truth, as JSON.

use std::path::PathBuf;

use anyhow::Result;
use hypeman_agent::protocol::Health;
use hypeman_instance::store::Instance;
use hypeman_record::end::End;
use hypeman_record::names;
use hypeman_record::network::Lease;
use hypeman_record::record::Record;
use hypeman_record::run::Run;
use hypeman_record::state::State;
use hypeman_snapshot::summary::Summary;
use serde::Serialize;

use super::adopt::observe;
use crate::args::Names;
use crate::context::Context;
use crate::output;

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

pub(crate) fn inspect(context: &Context, names: &Names) -> Result<()> {
    let documents =
        names.names.iter().map(|name| document(context.instances.find(name)?)).collect::<Result<Vec<_>>>()?;
    output::documents(&documents)
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
