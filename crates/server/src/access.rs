//! The access log.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;

/// Path of requests for which there is no route: what strangers ask for is no label.
const NO_ROUTE: &str = "unmatched";

/// Notes each answer, and tells it in the log.
pub(crate) async fn note(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let (status, took) = (response.status(), began.elapsed());
    app.metrics().answered(&method, route.as_deref().unwrap_or(NO_ROUTE), status, took);
    tracing::info!("{method} {path} {} {:.1} ms", status.as_u16(), took.as_secs_f64() * 1e3);
    response
}
