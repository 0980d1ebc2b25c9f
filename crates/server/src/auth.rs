//! Who may do what: the token of a request, and the scope of its operation.

use std::collections::HashMap;

use axum::extract::MatchedPath;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};

use crate::refusal::{Answer, Refusal};
use crate::scope::Scope;
use crate::token::{Claims, Verifier};

/// Name of the security scheme in the OpenAPI document, whose requirements name the scopes.
pub(crate) const SCHEME: &str = "bearerAuth";

/// Returns the claims of the token of a request.
///
/// # Errors
/// 401, with upstream's words.
pub(crate) fn authenticate(verifier: &Verifier, headers: &HeaderMap) -> Answer<Claims> {
    let header = headers.get(AUTHORIZATION);
    let header = header.ok_or_else(|| Refusal::unauthorized("authorization header required"))?;
    let header = header.to_str().unwrap_or_default();
    let token = header.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let (_, token) = token.ok_or_else(|| Refusal::unauthorized("invalid authorization header format"))?;
    let claims = verifier.verify(token.trim()).ok_or_else(|| Refusal::unauthorized("invalid token"))?;
    match claims.is_of_builder() {
        true => Err(Refusal::unauthorized("invalid token type")),
        false => Ok(claims),
    }
}

/// The scope of each operation, by method and path of its route.
#[derive(Debug, Default)]
pub(crate) struct Scopes(HashMap<(Method, String), Scope>);

impl Scopes {
    /// Adds the scope of an operation.
    pub(crate) fn add(&mut self, method: Method, path: &str, scope: Scope) {
        self.0.insert((method, path.to_owned()), scope);
    }

    /// Adds the operations of an OpenAPI document, each with the scope that it requires.
    pub(crate) fn add_document(&mut self, document: &serde_json::Value) {
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                let scope = operation["security"][0][SCHEME][0].as_str().and_then(|scope| scope.parse().ok());
                if let (Ok(method), Some(scope)) = (method.to_uppercase().parse(), scope) {
                    self.add(method, path, scope);
                }
            }
        }
    }

    /// Checks that a token is for the operation of a request. An operation that has no scope is for
    /// nobody.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn check(&self, claims: &Claims, parts: &Parts) -> Answer<()> {
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
        match self.0.get(&(method, path.to_owned())) {
            Some(scope) if claims.allow(*scope) => Ok(()),
            Some(scope) => Err(Refusal::forbidden(*scope)),
            None => Err(Refusal::internal(format!("no scope is known for {path}"))),
        }
    }

    /// Lists the operations with their scopes.
    #[cfg(test)]
    pub(crate) fn list(&self) -> impl Iterator<Item = (&Method, &str, Scope)> {
        self.0.iter().map(|((method, path), scope)| (method, path.as_str(), *scope))
    }
}
