//! Started, stopped, put to standby, restored, forked. A call whose goal holds already changes
//! nothing and succeeds, as upstream's.

use axum::Json as Body;
use axum::http::StatusCode;
use hypeman_host::command::Replacement;
use hypeman_host::fork::{ForkRequest, Target};
use hypeman_host::instance::Instance;
use hypeman_host::verbs::STOP_TIMEOUT;
use hypeman_host::{Host, Needs};
use hypeman_record::state::State;
use hypeman_wire::Error;
use hypeman_wire::instance::{self as wire, ForkInstanceRequest, StartInstanceRequest, TargetState};
use hypeman_wire::snapshot::StandbyInstanceRequest;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::instances::{InstanceId, describe_again};
use crate::app::App;
use crate::call::{Call, Json, Optional};
use crate::refusal::{Answer, Refusal};
use crate::shown;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(standby))
        .routes(routes!(restore))
        .routes(routes!(fork))
}

/// Finds an instance, with its state.
pub(super) fn find(host: &Host, id: &str) -> hypeman_host::Result<(Instance, State)> {
    let instance = host.find(id)?;
    let state = host.observe(&instance)?.state;
    Ok((instance, state))
}

/// Starts an instance that is stopped. Words that replace its command stay for later starts.
#[utoipa::path(
    post, path = "/instances/{id}/start", tag = "Instances", operation_id = "startInstance",
    params(InstanceId), request_body = StartInstanceRequest, security(("bearerAuth" = ["instance:write"])),
    responses((status = 200, body = wire::Instance), (status = "default", body = Error)),
)]
async fn start(call: Call<InstanceId, Json<StartInstanceRequest>>) -> Answer<Body<wire::Instance>> {
    let (InstanceId { id }, Json(StartInstanceRequest { entrypoint, cmd })) = (call.path, call.input);
    let replacement = Replacement { entrypoint, arguments: cmd };
    let started = call.app.run(move |host| {
        let (instance, state) = find(host, &id)?;
        let id = &instance.record.id;
        if replacement != Replacement::default() {
            host.start_with(id, &replacement)?;
        } else if !matches!(state, State::Running | State::Initializing) {
            host.start(id)?;
        }
        describe_again(host, &instance)
    });
    started.await.map(Body)
}

/// Asks a guest to end, and ends its VM if it does not in time.
#[utoipa::path(
    post, path = "/instances/{id}/stop", tag = "Instances", operation_id = "stopInstance",
    params(InstanceId), security(("bearerAuth" = ["instance:write"])),
    responses((status = 200, body = wire::Instance), (status = "default", body = Error)),
)]
async fn stop(call: Call<InstanceId>) -> Answer<Body<wire::Instance>> {
    let InstanceId { id } = call.path;
    let stopped = call.app.run(move |host| {
        let (instance, state) = find(host, &id)?;
        match state {
            State::Stopped => {}
            State::Created => return Err(instance.refused(state, Needs::Running).into()),
            _ => drop(host.stop(&instance.record.id, STOP_TIMEOUT)?),
        }
        describe_again(host, &instance)
    });
    stopped.await.map(Body)
}

/// Writes the memory of a running instance to disk, and ends its VMM.
#[utoipa::path(
    post, path = "/instances/{id}/standby", tag = "Instances", operation_id = "standbyInstance",
    params(InstanceId), request_body = Option<StandbyInstanceRequest>,
    security(("bearerAuth" = ["instance:write"])),
    responses((status = 200, body = wire::Instance), (status = "default", body = Error)),
)]
async fn standby(call: Call<InstanceId, Optional<StandbyInstanceRequest>>) -> Answer<Body<wire::Instance>> {
    let (InstanceId { id }, Optional(request)) = (call.path, call.input);
    if let Some(field) = request.unsupported() {
        return Err(Refusal::no_feature(field));
    }
    let has_options = request.compression.is_some();
    let compression = shown::compression(request.compression.as_ref())?;
    let asleep = call.app.run(move |host| {
        let (instance, state) = find(host, &id)?;
        match state {
            State::Running => host.standby(&instance.record.id, compression)?,
            State::Standby if !has_options => {}
            state => return Err(instance.refused(state, Needs::Running).into()),
        }
        describe_again(host, &instance)
    });
    asleep.await.map(Body)
}

/// Lets an instance go on from standby. One that cannot go on stays in standby.
#[utoipa::path(
    post, path = "/instances/{id}/restore", tag = "Instances", operation_id = "restoreInstance",
    params(InstanceId), security(("bearerAuth" = ["instance:write"])),
    responses((status = 200, body = wire::Instance), (status = "default", body = Error)),
)]
async fn restore(call: Call<InstanceId>) -> Answer<Body<wire::Instance>> {
    let InstanceId { id } = call.path;
    let restored = call.app.run(move |host| {
        let (instance, state) = find(host, &id)?;
        match state {
            State::Running | State::Initializing => {}
            State::Standby => drop(host.restore(&instance.record.id)?),
            state => return Err(instance.refused(state, Needs::Standby).into()),
        }
        describe_again(host, &instance)
    });
    restored.await.map(Body)
}

/// Makes another instance of one that there is.
#[utoipa::path(
    post, path = "/instances/{id}/fork", tag = "Instances", operation_id = "forkInstance",
    params(InstanceId), request_body = ForkInstanceRequest, security(("bearerAuth" = ["instance:write"])),
    responses((status = 201, body = wire::Instance), (status = "default", body = Error)),
)]
async fn fork(
    call: Call<InstanceId, Json<ForkInstanceRequest>>,
) -> Answer<(StatusCode, Body<wire::Instance>)> {
    let (InstanceId { id }, Json(request)) = (call.path, call.input);
    let from_running = request.from_running;
    let fork = ForkRequest {
        name: request.name.as_str().to_owned(),
        state: request.target_state.map(target),
        tags: request.tags.into_map(),
    };
    let forked = call.app.run(move |host| {
        let (instance, state) = find(host, &id)?;
        if state.is_active() && !from_running {
            let message =
                format!("instance {} runs (current state: {state}); set from_running", instance.record.name);
            return Err(Refusal::conflict("invalid_state", message));
        }
        let fork = host.fork(&instance.record.id, &fork)?;
        describe_again(host, &fork)
    });
    Ok((StatusCode::CREATED, Body(forked.await?)))
}

/// The state of a fork.
pub(super) fn target(state: TargetState) -> Target {
    match state {
        TargetState::Stopped => Target::Stopped,
        TargetState::Standby => Target::Standby,
        TargetState::Running => Target::Running,
    }
}
