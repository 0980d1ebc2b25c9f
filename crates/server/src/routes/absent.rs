//! Operations of upstream's for features that do not exist here yet. Each is refused with 501 and
//! the feature's name, after the token and the scope.

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use crate::app::App;
use crate::call::Call;
use crate::refusal::Refusal;

/// Method, path, scope and feature of each.
pub(crate) const OPERATIONS: &[(&str, &str, &str, &str)] = &[
    ("POST", "/resources/memory/reclaim", "resource:write", "memory reclaim"),
    ("GET", "/pushes", "image:read", "pushes"),
    ("POST", "/pushes", "image:write", "pushes"),
    ("GET", "/pushes/{id}", "image:read", "pushes"),
    ("GET", "/instances/{id}/auto-standby/status", "instance:read", "auto-standby"),
    ("POST", "/instances/{id}/auto-standby/hold", "instance:write", "auto-standby"),
    ("POST", "/instances/{id}/volumes/{volumeId}", "volume:write", "volumes"),
    ("DELETE", "/instances/{id}/volumes/{volumeId}", "volume:write", "volumes"),
    ("GET", "/instances/{id}/snapshot-schedule", "snapshot:read", "snapshot schedules"),
    ("PUT", "/instances/{id}/snapshot-schedule", "snapshot:write", "snapshot schedules"),
    ("DELETE", "/instances/{id}/snapshot-schedule", "snapshot:delete", "snapshot schedules"),
    ("GET", "/volumes", "volume:read", "volumes"),
    ("POST", "/volumes", "volume:write", "volumes"),
    ("POST", "/volumes/from-archive", "volume:write", "volumes"),
    ("GET", "/volumes/{id}", "volume:read", "volumes"),
    ("DELETE", "/volumes/{id}", "volume:delete", "volumes"),
    ("GET", "/devices", "device:read", "devices"),
    ("POST", "/devices", "device:write", "devices"),
    ("GET", "/devices/available", "device:read", "devices"),
    ("GET", "/devices/{id}", "device:read", "devices"),
    ("DELETE", "/devices/{id}", "device:delete", "devices"),
    ("GET", "/ingresses", "ingress:read", "ingresses"),
    ("POST", "/ingresses", "ingress:write", "ingresses"),
    ("GET", "/ingresses/{id}", "ingress:read", "ingresses"),
    ("DELETE", "/ingresses/{id}", "ingress:delete", "ingresses"),
    ("GET", "/builds", "build:read", "builds"),
    ("POST", "/builds", "build:write", "builds"),
    ("GET", "/builds/{id}", "build:read", "builds"),
    ("DELETE", "/builds/{id}", "build:delete", "builds"),
    ("GET", "/builds/{id}/events", "build:read", "builds"),
    ("GET", "/builders", "builder:read", "builders"),
    ("POST", "/builders", "builder:write", "builders"),
    ("GET", "/builders/{id}", "builder:read", "builders"),
    ("DELETE", "/builders/{id}", "builder:delete", "builders"),
    ("POST", "/builders/{id}/prune", "builder:write", "builders"),
    ("GET", "/images", "image:read", "images"),
    ("POST", "/images", "image:write", "images"),
    ("GET", "/images/{name}", "image:read", "images"),
    ("DELETE", "/images/{name}", "image:delete", "images"),
    ("POST", "/images/{name}/tag", "image:write", "images"),
    ("GET", "/instances", "instance:read", "instances"),
    ("POST", "/instances", "instance:write", "instances"),
    ("GET", "/instances/{id}", "instance:read", "instances"),
    ("DELETE", "/instances/{id}", "instance:delete", "instances"),
    ("PATCH", "/instances/{id}", "instance:write", "instances"),
    ("POST", "/instances/{id}/standby", "instance:write", "instances"),
    ("POST", "/instances/{id}/restore", "instance:write", "instances"),
    ("POST", "/instances/{id}/fork", "instance:write", "instances"),
    ("POST", "/instances/{id}/snapshots", "snapshot:write", "instances"),
    ("POST", "/instances/{id}/snapshots/{snapshotId}/restore", "snapshot:write", "instances"),
    ("GET", "/snapshots", "snapshot:read", "snapshots"),
    ("GET", "/snapshots/{snapshotId}", "snapshot:read", "snapshots"),
    ("DELETE", "/snapshots/{snapshotId}", "snapshot:delete", "snapshots"),
    ("POST", "/snapshots/{snapshotId}/fork", "snapshot:write", "snapshots"),
    ("POST", "/instances/{id}/stop", "instance:write", "instances"),
    ("POST", "/instances/{id}/start", "instance:write", "instances"),
    ("GET", "/instances/{id}/logs", "instance:read", "instances"),
    ("GET", "/instances/{id}/stat", "instance:read", "instances"),
    ("GET", "/instances/{id}/wait", "instance:read", "instances"),
    ("GET", "/instances/{id}/stats", "instance:read", "instances"),
    ("GET", "/instances/{id}/exec", "instance:write", "instances"),
    ("GET", "/instances/{id}/cp", "instance:write", "instances"),
];

pub(crate) fn routes() -> Router<App> {
    OPERATIONS.iter().fold(Router::new(), |router, (method, path, _, feature)| {
        let method = method.parse::<Method>().ok().and_then(|method| MethodFilter::try_from(method).ok());
        let refuse = async move |_: Call| Refusal::not_supported(format!("{feature} are not supported yet"));
        match method {
            Some(method) => router.route(path, on(method, refuse)),
            None => router,
        }
    })
}
