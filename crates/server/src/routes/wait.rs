//! Waits for a state.

use std::time::Duration;

use axum::Json as Body;
use hypeman_host::observe::Observation;
use hypeman_host::watch::Watch;
use hypeman_record::state::State;
use hypeman_wire::instance::{InstanceState, WaitForStateResponse};
use hypeman_wire::{Error, human};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::instances::InstanceId;
use crate::app::App;
use crate::call::{Call, Query};
use crate::refusal::{Answer, Refusal};
use crate::shown;

/// The usual timeout, and the longest.
const TIMEOUT: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(300);

/// States in which an instance stays until somebody does something. Upstream counts Shutdown among
/// them; here it is the moment between the end of the VMM and that of its log.
const AT_REST: [State; 4] = [State::Unknown, State::Stopped, State::Standby, State::Paused];

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(wait))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// State to wait for; any but Unknown.
    state: InstanceState,
    /// Timeout, as `30s`; 5 minutes at most.
    #[param(required = false, nullable = false, default = "60s")]
    timeout: Option<String>,
}

/// Waits until an instance has a state, or stays in another one. The answer tells the state then.
#[utoipa::path(
    get, path = "/instances/{id}/wait", tag = "Instances", operation_id = "waitForInstanceState",
    params(InstanceId, WaitQuery), security(("bearerAuth" = ["instance:read"])),
    responses((status = 200, body = WaitForStateResponse), (status = "default", body = Error)),
)]
async fn wait(call: Call<InstanceId, Query<WaitQuery>>) -> Answer<Body<WaitForStateResponse>> {
    let (InstanceId { id }, Query(WaitQuery { state, timeout })) = (call.path, call.input);
    if state == InstanceState::Unknown {
        return Err(Refusal::invalid("invalid_state", "state: Unknown cannot be waited for"));
    }
    let deadline = Instant::now() + parse(timeout.as_deref())?;
    let mut watch = call.app.run(move |host| host.watch(&id)).await?;
    let stopping = call.app.stopping();
    tokio::select! {
        answer = until(&mut watch, state, deadline) => answer.map(Body),
        () = stopping.cancelled() => Err(Refusal::internal("the server ends; try again")),
    }
}

fn parse(timeout: Option<&str>) -> Answer<Duration> {
    let Some(text) = timeout else { return Ok(TIMEOUT) };
    let invalid = |reason: String| Refusal::invalid("invalid_timeout", format!("timeout: {reason}"));
    match human::parse_duration(text).map_err(invalid)? {
        Duration::ZERO => Err(invalid("it has to be longer than 0".to_owned())),
        timeout => Ok(timeout.min(LONGEST)),
    }
}

async fn until(watch: &mut Watch, wanted: InstanceState, deadline: Instant) -> Answer<WaitForStateResponse> {
    let mut last: Option<Observation> = None;
    loop {
        let Ok(next) = tokio::time::timeout_at(deadline, watch.next()).await else {
            return Ok(last.map_or_else(untold, |seen| response(&seen, true)));
        };
        let seen = next?;
        if shown::state(seen.state) == wanted || AT_REST.contains(&seen.state) {
            return Ok(response(&seen, false));
        }
        last = Some(seen);
    }
}

/// The answer when nothing was told of the instance in time: its shim is busy, or silent.
fn untold() -> WaitForStateResponse {
    let state_error = Some("its shim has not told its state in time".to_owned());
    WaitForStateResponse { state: InstanceState::Unknown, state_error, timed_out: true }
}

fn response(seen: &Observation, timed_out: bool) -> WaitForStateResponse {
    WaitForStateResponse { state: shown::state(seen.state), state_error: shown::state_error(seen), timed_out }
}
