//! Answers to Prometheus.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::app::App;
use crate::refusal::{Answer, Refusal};

/// Serves the metrics of a registry.
pub(crate) fn routes(app: App, registry: Registry) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state((app, registry))
}

async fn scrape(State((app, registry)): State<(App, Registry)>) -> Answer<Response> {
    let text = app.run(move |_| text(&registry)).await?;
    Ok(([(CONTENT_TYPE, TextEncoder::new().format_type().to_owned())], text).into_response())
}

/// Reads all metrics. Blocks.
fn text(registry: &Registry) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).map_err(|error| {
        tracing::error!("metrics cannot be written: {error}");
        Refusal::fault()
    })?;
    Ok(text)
}
