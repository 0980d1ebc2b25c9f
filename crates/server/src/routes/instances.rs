//! Instances: made, listed, described, removed.

use std::time::Duration;

use axum::Json as Body;
use axum::http::StatusCode;
use hypeman_host::Host;
use hypeman_host::instance::Instance;
use hypeman_host::stats::{Usage, usage};
use hypeman_image::Quiet;
use hypeman_wire::create::{CreateInstanceRequest, UpdateInstanceRequest};
use hypeman_wire::files::PathInfo;
use hypeman_wire::instance::{self as wire, InstanceState, InstanceStats};
use hypeman_wire::{Error, Tags};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::images;
use crate::app::App;
use crate::call::{Call, Json, Query, place};
use crate::refusal::{Answer, Refusal};
use crate::shown;

/// How long a guest has to end before it is removed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Permissions of a file, without its type (stat(2)).
const PERMISSIONS: u32 = 0o7777;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(stat))
        .routes(routes!(stats))
}

/// Name of an instance.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct InstanceId {
    /// Id, name, or the beginning of an id.
    pub(super) id: String,
}
place!(InstanceId);

/// Describes an instance as it is now.
pub(super) fn describe(host: &Host, query: &str) -> Answer<wire::Instance> {
    let instance = host.find(query)?;
    let seen = host.observe(&instance)?;
    Ok(shown::instance(&instance, &seen, host.lease(&instance)?.as_ref()))
}

/// As [`describe`], for one that was found; by its id, for it may have another name by now.
pub(super) fn describe_again(host: &Host, instance: &Instance) -> Answer<wire::Instance> {
    describe(host, &instance.record.id)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// State that it has.
    #[param(required = false, nullable = false)]
    state: Option<InstanceState>,
    /// Tags that it has, as `tags[team]=backend`.
    #[serde(default)]
    #[param(style = DeepObject, explode, required = false)]
    tags: Tags,
}

/// Lists instances, oldest first.
#[utoipa::path(
    get, path = "/instances", tag = "Instances", operation_id = "listInstances", params(Filter),
    security(("bearerAuth" = ["instance:read"])),
    responses((status = 200, body = Vec<wire::Instance>), (status = "default", body = Error)),
)]
async fn list(call: Call<(), Query<Filter>>) -> Answer<Body<Vec<wire::Instance>>> {
    let Query(filter) = call.input;
    let listed = call.app.run(move |host| {
        let (mut instances, damaged) = host.list()?;
        damaged.iter().for_each(|error| tracing::warn!("{error}"));
        instances.retain(|instance| filter.tags.are_in(&instance.record.tags));
        let seen = host.observe_all(&instances);
        let shown = instances.iter().zip(seen).filter_map(|(instance, seen)| {
            let seen = seen.ok()?; // it is being removed
            Some(shown::instance(instance, &seen, host.lease(instance).ok()?.as_ref()))
        });
        let is_wanted = |instance: &wire::Instance| filter.state.is_none_or(|state| instance.state == state);
        Ok::<_, hypeman_host::Error>(shown.filter(is_wanted).collect())
    });
    listed.await.map(Body)
}

/// Makes an instance and starts it. Its image is pulled if it is not here; when that takes longer
/// than five seconds the code is `image_not_ready`, and the pull goes on.
#[utoipa::path(
    post, path = "/instances", tag = "Instances", operation_id = "createInstance",
    request_body = CreateInstanceRequest, security(("bearerAuth" = ["instance:write"])),
    responses((status = 201, body = wire::Instance), (status = "default", body = Error)),
)]
async fn create(call: Call<(), Json<CreateInstanceRequest>>) -> Answer<(StatusCode, Body<wire::Instance>)> {
    let Json(request) = call.input;
    let names_platform = request.platform.as_deref().is_some_and(|platform| !platform.is_empty());
    let image = request.image.clone();
    let request = shown::create_request(request, call.app.config())?;
    images::provide(&call.app, &image, names_platform).await?;
    let created = call.app.run(move |host| {
        let prepared = host.prepare(&request, &Quiet)?;
        let (started, notes) = host.run(&prepared)?;
        notes.iter().for_each(|note| tracing::info!("{}: {note}", started.instance.record.name));
        describe_again(host, &started.instance)
    });
    Ok((StatusCode::CREATED, Body(created.await?)))
}

/// Returns an instance.
#[utoipa::path(
    get, path = "/instances/{id}", tag = "Instances", operation_id = "getInstance", params(InstanceId),
    security(("bearerAuth" = ["instance:read"])),
    responses((status = 200, body = wire::Instance), (status = "default", body = Error)),
)]
async fn get(call: Call<InstanceId>) -> Answer<Body<wire::Instance>> {
    let InstanceId { id } = call.path;
    call.app.run(move |host| describe(host, &id)).await.map(Body)
}

/// Changes an instance.
#[utoipa::path(
    patch, path = "/instances/{id}", tag = "Instances", operation_id = "updateInstance", params(InstanceId),
    request_body = UpdateInstanceRequest, security(("bearerAuth" = ["instance:write"])),
    responses((status = 200, body = wire::Instance), (status = "default", body = Error)),
)]
async fn update(call: Call<InstanceId, Json<UpdateInstanceRequest>>) -> Answer<Body<wire::Instance>> {
    let (InstanceId { id }, Json(changes)) = (call.path, call.input);
    let instance = call.app.run(move |host| describe(host, &id)).await?;
    match changes.unsupported() {
        Some(field) => Err(Refusal::no_feature(field)),
        None => Ok(Body(instance)),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Removal {
    /// Whether the guest is asked to end first; else its VM is ended at once.
    #[serde(default = "yes")]
    #[param(required = false, default = true)]
    graceful_shutdown: bool,
}

fn yes() -> bool {
    true
}

/// Removes an instance, in any state, with its disks and logs. Its snapshots stay.
#[utoipa::path(
    delete, path = "/instances/{id}", tag = "Instances", operation_id = "deleteInstance",
    params(InstanceId, Removal), security(("bearerAuth" = ["instance:delete"])),
    responses((status = 204), (status = "default", body = Error)),
)]
async fn delete(call: Call<InstanceId, Query<Removal>>) -> Answer<StatusCode> {
    let (InstanceId { id }, Query(removal)) = (call.path, call.input);
    let removed = call.app.run(move |host| {
        let instance = host.find(&id)?;
        let id = &instance.record.id;
        if removal.graceful_shutdown && host.observe(&instance)?.state.is_active() {
            // One that cannot be asked, since it is paused or its shim is silent, is removed all the same.
            let _ = host.stop(id, REMOVAL_TIMEOUT);
        }
        match host.remove(id, true) {
            // It removes itself at its end, or another client was quicker.
            Err(hypeman_host::Error::NotFound(_)) => Ok(()),
            removed => removed,
        }
    });
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct StatQuery {
    /// Path in the guest.
    path: String,
    /// Whether a link is followed that the path itself is.
    #[serde(default)]
    #[param(required = false)]
    follow_links: bool,
}

/// Describes a file in a guest.
#[utoipa::path(
    get, path = "/instances/{id}/stat", tag = "Instances", operation_id = "statInstancePath",
    params(InstanceId, StatQuery), security(("bearerAuth" = ["instance:read"])),
    responses((status = 200, body = PathInfo), (status = "default", body = Error)),
)]
async fn stat(call: Call<InstanceId, Query<StatQuery>>) -> Answer<Body<PathInfo>> {
    let (InstanceId { id }, Query(StatQuery { path, follow_links })) = (call.path, call.input);
    let guest = call.app.run(move |host| host.find(&id).map(|instance| host.guest(&instance))).await?;
    let found = guest.stat(&path, follow_links).await?;
    Ok(Body(PathInfo {
        exists: found.exists,
        is_dir: found.is_dir,
        is_file: found.is_file,
        is_symlink: found.is_symlink,
        link_target: Some(found.link_target.unwrap_or_default()),
        mode: found.mode & PERMISSIONS,
        size: found.size,
        error: found.error,
    }))
}

/// Tells the resources that a running instance uses.
#[utoipa::path(
    get, path = "/instances/{id}/stats", tag = "Instances", operation_id = "getInstanceStats",
    params(InstanceId), security(("bearerAuth" = ["instance:read"])),
    responses((status = 200, body = InstanceStats), (status = "default", body = Error)),
)]
async fn stats(call: Call<InstanceId>) -> Answer<Body<InstanceStats>> {
    let InstanceId { id } = call.path;
    let found = call.app.run(move |host| -> Answer<InstanceStats> {
        let sampled = host.sample(std::slice::from_ref(&id))?;
        let usage = usage(&[], &sampled)?.into_iter().next();
        usage.map(of_usage).ok_or_else(|| Refusal::not_found(format!("no such instance: {id}")))
    });
    found.await.map(Body)
}

fn of_usage(usage: Usage) -> InstanceStats {
    let ratio = usage.memory_rss_bytes as f64 / usage.allocated_memory_bytes as f64;
    InstanceStats {
        instance_id: usage.instance_id,
        instance_name: usage.instance_name,
        cpu_seconds: usage.cpu_seconds,
        memory_rss_bytes: usage.memory_rss_bytes,
        memory_vms_bytes: usage.memory_vms_bytes,
        network_rx_bytes: usage.network_rx_bytes.unwrap_or(0),
        network_tx_bytes: usage.network_tx_bytes.unwrap_or(0),
        allocated_vcpus: usage.allocated_vcpus,
        allocated_memory_bytes: usage.allocated_memory_bytes,
        memory_utilization_ratio: Some(ratio).filter(|ratio| ratio.is_finite()),
    }
}
