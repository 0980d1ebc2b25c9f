//! Snapshots: made, listed, restored, forked, removed.

use axum::Json as Body;
use axum::http::StatusCode;
use hypeman_host::fork::ForkRequest;
use hypeman_host::named::{Resume, SnapshotRequest};
use hypeman_host::snapshots::Snapshot;
use hypeman_host::{Host, Needs};
use hypeman_record::named::Kind;
use hypeman_wire::instance as wire;
use hypeman_wire::snapshot::{
    CreateSnapshotRequest, ForkSnapshotRequest, RestoreSnapshotRequest, Snapshot as Shown, SnapshotKind,
};
use hypeman_wire::{Error, Tags};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::instances::{InstanceId, describe_again};
use super::lifecycle::{self, target};
use crate::app::App;
use crate::call::{Call, Json, Query, place};
use crate::refusal::{Answer, Refusal};
use crate::shown;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(restore))
        .routes(routes!(list))
        .routes(routes!(get, delete))
        .routes(routes!(fork))
}

/// Id of a snapshot.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct SnapshotId {
    /// Id.
    #[serde(rename = "snapshotId")]
    #[param(rename = "snapshotId")]
    snapshot: String,
}

/// Name of an instance, and id of a snapshot of it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct InstanceSnapshot {
    /// Id, name, or the beginning of an id.
    id: String,
    /// Id.
    #[serde(rename = "snapshotId")]
    #[param(rename = "snapshotId")]
    snapshot: String,
}
place!(SnapshotId, InstanceSnapshot);

/// Makes a snapshot of an instance. One that runs pauses for it, and goes on.
#[utoipa::path(
    post, path = "/instances/{id}/snapshots", tag = "Named snapshots", operation_id = "createInstanceSnapshot",
    params(InstanceId), request_body = CreateSnapshotRequest, security(("bearerAuth" = ["snapshot:write"])),
    responses((status = 201, body = Shown), (status = "default", body = Error)),
)]
async fn create(call: Call<InstanceId, Json<CreateSnapshotRequest>>) -> Answer<(StatusCode, Body<Shown>)> {
    let (InstanceId { id }, Json(request)) = (call.path, call.input);
    let compression = shown::compression(request.compression.as_ref())?;
    if compression.is_some() && request.kind == SnapshotKind::Stopped {
        let message = "compression: a snapshot of kind Stopped has no memory to compress";
        return Err(Refusal::invalid("invalid_snapshot_compression", message));
    }
    let wanted = SnapshotRequest {
        name: request.name.map(|name| name.as_str().to_owned()),
        kind: Some(kind(request.kind)),
        tags: request.tags.into_map(),
        compression,
    };
    let made = call.app.run(move |host| {
        let made = host.create_snapshot(&id, &wanted).map_err(|error| match error {
            hypeman_host::Error::State { .. } => recoded(error.into(), "conflict"),
            hypeman_host::Error::Invalid { .. } => {
                Refusal::conflict("conflict", hypeman_files::with_causes(&error))
            }
            error => error.into(),
        })?;
        Ok::<_, Refusal>(shown::snapshot(&made)?)
    });
    Ok((StatusCode::CREATED, Body(made.await?)))
}

/// The same refusal with another code: what is `invalid_state` elsewhere.
fn recoded(refusal: Refusal, code: &'static str) -> Refusal {
    Refusal::conflict(code, refusal.message())
}

/// Puts an instance that does not run back to a snapshot of it. One that cannot go on stays in
/// standby.
#[utoipa::path(
    post, path = "/instances/{id}/snapshots/{snapshotId}/restore", tag = "Named snapshots",
    operation_id = "restoreInstanceSnapshot", params(InstanceSnapshot),
    request_body = RestoreSnapshotRequest, security(("bearerAuth" = ["snapshot:write"])),
    responses((status = 200, body = wire::Instance), (status = "default", body = Error)),
)]
async fn restore(call: Call<InstanceSnapshot, Json<RestoreSnapshotRequest>>) -> Answer<Body<wire::Instance>> {
    let (InstanceSnapshot { id, snapshot }, Json(request)) = (call.path, call.input);
    let hypervisor = request.target_hypervisor.map(shown::hypervisor_kind).transpose()?;
    let resume = Resume { state: request.target_state.map(target), hypervisor };
    let restored = call.app.run(move |host| {
        let (instance, state) = lifecycle::find(host, &id)?;
        let snapshot = find(host, &snapshot)?;
        if snapshot.record.source.id != instance.record.id {
            let message = format!("snapshot {} is of another instance", snapshot.record.id);
            return Err(Refusal::invalid("invalid_request", message));
        }
        if state.is_active() {
            return Err(instance.refused(state, Needs::Stopped).into());
        }
        host.restore_snapshot(&instance.record.id, &snapshot.record.id, resume)?;
        describe_again(host, &instance)
    });
    restored.await.map(Body)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Id of its instance.
    #[param(required = false, nullable = false)]
    source_instance_id: Option<String>,
    /// Kind.
    #[param(required = false, nullable = false)]
    kind: Option<SnapshotKind>,
    /// Name.
    #[param(required = false, nullable = false)]
    name: Option<String>,
    /// Tags that it has, as `tags[team]=backend`.
    #[serde(default)]
    #[param(style = DeepObject, explode, required = false)]
    tags: Tags,
}

/// Lists snapshots, oldest first.
#[utoipa::path(
    get, path = "/snapshots", tag = "Named snapshots", operation_id = "listSnapshots", params(Filter),
    security(("bearerAuth" = ["snapshot:read"])),
    responses((status = 200, body = Vec<Shown>), (status = "default", body = Error)),
)]
async fn list(call: Call<(), Query<Filter>>) -> Answer<Body<Vec<Shown>>> {
    let Query(Filter { source_instance_id, kind: wanted, name, tags }) = call.input;
    let listed = call.app.run(move |host| {
        let (mut snapshots, damaged) = host.list_snapshots()?;
        damaged.iter().for_each(|error| tracing::warn!("{error}"));
        snapshots.retain(|snapshot| {
            let record = &snapshot.record;
            source_instance_id.as_ref().is_none_or(|id| *id == record.source.id)
                && wanted.is_none_or(|wanted| kind(wanted) == record.kind)
                && name.as_ref().is_none_or(|name| record.name.as_ref() == Some(name))
                && tags.are_in(&record.tags)
        });
        // One that is being removed is left out.
        Ok::<_, hypeman_host::Error>(
            snapshots.iter().filter_map(|snapshot| shown::snapshot(snapshot).ok()).collect(),
        )
    });
    listed.await.map(Body)
}

/// Returns a snapshot.
#[utoipa::path(
    get, path = "/snapshots/{snapshotId}", tag = "Named snapshots", operation_id = "getSnapshot",
    params(SnapshotId), security(("bearerAuth" = ["snapshot:read"])),
    responses((status = 200, body = Shown), (status = "default", body = Error)),
)]
async fn get(call: Call<SnapshotId>) -> Answer<Body<Shown>> {
    let SnapshotId { snapshot } = call.path;
    call.app.run(move |host| shown::snapshot(&find(host, &snapshot)?)).await.map(Body)
}

/// Removes a snapshot.
#[utoipa::path(
    delete, path = "/snapshots/{snapshotId}", tag = "Named snapshots", operation_id = "deleteSnapshot",
    params(SnapshotId), security(("bearerAuth" = ["snapshot:delete"])),
    responses((status = 204), (status = "default", body = Error)),
)]
async fn delete(call: Call<SnapshotId>) -> Answer<StatusCode> {
    let SnapshotId { snapshot } = call.path;
    let removed = call.app.run(move |host| host.remove_snapshot(&find(host, &snapshot)?.record.id));
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

/// Makes an instance of a snapshot.
#[utoipa::path(
    post, path = "/snapshots/{snapshotId}/fork", tag = "Named snapshots", operation_id = "forkSnapshot",
    params(SnapshotId), request_body = ForkSnapshotRequest, security(("bearerAuth" = ["snapshot:write"])),
    responses((status = 201, body = wire::Instance), (status = "default", body = Error)),
)]
async fn fork(
    call: Call<SnapshotId, Json<ForkSnapshotRequest>>,
) -> Answer<(StatusCode, Body<wire::Instance>)> {
    let (SnapshotId { snapshot }, Json(request)) = (call.path, call.input);
    let hypervisor = request.target_hypervisor.map(shown::hypervisor_kind).transpose()?;
    let wanted = ForkRequest {
        name: request.name.as_str().to_owned(),
        state: request.target_state.map(target),
        tags: request.tags.into_map(),
    };
    let forked = call.app.run(move |host| {
        let forked = host.fork_snapshot(&find(host, &snapshot)?.record.id, &wanted, hypervisor);
        let forked = forked.map_err(|error| match error {
            hypeman_host::Error::NameTaken { .. } => recoded(error.into(), "conflict"),
            error => Refusal::from(error),
        })?;
        describe_again(host, &forked)
    });
    Ok((StatusCode::CREATED, Body(forked.await?)))
}

/// Finds a snapshot by its id alone: names are unique within one instance only.
fn find(host: &Host, id: &str) -> hypeman_host::Result<Snapshot> {
    let found = host.snapshot(id, None)?;
    match found.record.id == id {
        true => Ok(found),
        false => Err(hypeman_host::Error::NoSnapshot(id.to_owned())),
    }
}

fn kind(kind: SnapshotKind) -> Kind {
    match kind {
        SnapshotKind::Standby => Kind::Standby,
        SnapshotKind::Stopped => Kind::Stopped,
    }
}
