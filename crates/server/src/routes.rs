//! The routes, a file a resource.

mod absent;
#[cfg(test)]
mod conformity;
mod copy;
mod exec;
mod guest;
mod images;
mod instances;
mod lifecycle;
mod logs;
mod snapshots;
mod spec;
mod system;
mod wait;

use axum::Router;
use axum::http::Method;
use axum::response::IntoResponse;
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::access;
use crate::app::App;
use crate::auth::{SCHEME, Scopes};
use crate::refusal::Refusal;

/// Version of the API that this server speaks, upstream's.
pub(crate) const API_VERSION: &str = "0.3.0";

/// Method, path and scope of the operations over websockets, of which OpenAPI knows nothing.
const WEBSOCKETS: [(&str, &str, &str); 2] =
    [("GET", "/instances/{id}/exec", "instance:write"), ("GET", "/instances/{id}/cp", "instance:write")];

/// The document to which the routes are added.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "hypeman",
        version = "0.3.0",
        description = "Runs OCI images as virtual machines. Tokens are made by `hypeman token`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Security),
)]
struct Document;

/// Adds the scheme of tokens.
struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer));
    }
}

/// All operations.
pub(crate) struct Api {
    /// Those that the document describes.
    documented: Router<App>,
    /// The OpenAPI document.
    document: Value,
}

impl Api {
    pub(crate) fn new() -> Api {
        let (documented, document) = OpenApiRouter::with_openapi(Document::openapi())
            .merge(system::routes())
            .merge(images::routes())
            .merge(instances::routes())
            .merge(lifecycle::routes())
            .merge(wait::routes())
            .merge(logs::routes())
            .merge(snapshots::routes())
            .split_for_parts();
        Api { documented, document: serde_json::to_value(document).unwrap_or_default() }
    }

    /// Returns the scope of each operation.
    pub(crate) fn scopes(&self) -> Scopes {
        let mut scopes = Scopes::default();
        scopes.add_document(&self.document);
        let others = absent::OPERATIONS.iter().map(|(method, path, scope, _)| (*method, *path, *scope));
        for (method, path, scope) in others.chain(WEBSOCKETS) {
            if let (Ok(method), Ok(scope)) = (method.parse::<Method>(), scope.parse()) {
                scopes.add(method, path, scope);
            }
        }
        scopes
    }

    /// Returns the router of all operations.
    pub(crate) fn router(self, app: App) -> Router {
        self.documented
            .merge(spec::routes(&self.document))
            .merge(absent::routes())
            .merge(exec::routes())
            .merge(copy::routes())
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(no_route)
            .layer(CatchPanicLayer::custom(|_| Refusal::fault().into_response()))
            .layer(axum::middleware::from_fn_with_state(app.clone(), access::note))
            .with_state(app)
    }
}

async fn no_route() -> Refusal {
    Refusal::not_found("there is no such path in this API")
}

async fn method_not_allowed() -> Refusal {
    Refusal::method_not_allowed()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_of_upstream_s_has_its_scope() {
        let operations: serde_json::Value =
            serde_json::from_str(include_str!("../tests/operations.json")).unwrap();
        let all = operations["operations"].as_array().unwrap().iter();
        let outside = operations["outside_openapi"].as_array().unwrap().iter();
        let wanted: BTreeSet<String> = all
            .chain(outside)
            .filter(|operation| operation["scope"].is_string())
            .map(|operation| {
                let text = |field: &str| operation[field].as_str().unwrap();
                format!("{} {} {}", text("method"), text("path"), text("scope"))
            })
            .collect();
        let scopes = Api::new().scopes();
        let ours = scopes.list().map(|(method, path, scope)| format!("{method} {path} {scope}"));
        let ours: BTreeSet<String> = ours.collect();
        assert_eq!(wanted.difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new(), "missing here");
        assert_eq!(ours.difference(&wanted).collect::<Vec<_>>(), Vec::<&String>::new(), "not upstream's");
    }
}
