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
