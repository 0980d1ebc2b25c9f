//! The OpenAPI document and a page to read it, both without a token.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;
use crate::reference;

/// Content types, upstream's.
const JSON: &str = "application/json";
const YAML: &str = "application/vnd.oai.openapi";
const HTML: &str = "text/html; charset=utf-8";

/// The page has no script, and fetches nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(super) fn routes(document: &serde_json::Value) -> Router<App> {
    let json: Arc<str> = document.to_string().into();
    let yaml: Arc<str> = serde_yaml_ng::to_string(document).unwrap_or_default().into();
    let html: Arc<str> = reference::page(document).into();
    let served = |content_type: &'static str, text: Arc<str>| {
        get(async move || {
            let headers = [(CONTENT_TYPE, content_type), (CONTENT_SECURITY_POLICY, POLICY)];
            (headers, text.to_string()).into_response()
        })
    };
    Router::new()
        .route("/spec.json", served(JSON, json))
        .route("/spec.yaml", served(YAML, yaml))
        .route("/swagger", served(HTML, html))
}
