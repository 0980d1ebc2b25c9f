//! The access log: each request is a message, a span for a collector, and counted.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, field, info_span};

use crate::app::App;

/// Path of requests for which there is no route: what strangers ask for is no label.
const NO_ROUTE: &str = "unmatched";

/// Notes each answer, and tells it in the log.
pub(crate) async fn note(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.as_deref().unwrap_or(NO_ROUTE);
    let path = request.uri().path().to_owned();
    // By the conventions of OpenTelemetry
    // (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).
    let span = info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = %method,
        http.route = route,
        url.path = path,
        http.response.status_code = field::Empty,
    );
    let noted = async {
        let response = next.run(request).await;
        let (status, took) = (response.status(), began.elapsed());
        app.metrics().answered(&method, route, status, took);
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        tracing::info!("{method} {path} {} {:.1} ms", status.as_u16(), took.as_secs_f64() * 1e3);
        response
    };
    noted.instrument(span.clone()).await
}
