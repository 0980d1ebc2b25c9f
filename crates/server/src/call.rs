//! A call of an operation, checked in upstream's order: token, path and schema, scope.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::auth::authenticate;
use crate::refusal::{Answer, Refusal};

/// Largest body in bytes.
const MAX_BODY: usize = 1 << 20;

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Depth of a query: `tags[team]` has two levels.
const QUERY_DEPTH: usize = 2;

/// A call that is allowed. A handler reaches the host by one, and so never without a check.
pub(crate) struct Call<P = (), I = ()> {
    pub(crate) app: App,
    /// Parameters in the path.
    pub(crate) path: P,
    /// Query or body.
    pub(crate) input: I,
}

impl<P: Place, I: Input> FromRequest<App> for Call<P, I> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Answer<Call<P, I>> {
        let (mut parts, body) = request.into_parts();
        let claims = authenticate(app.verifier(), &parts.headers)?;
        let path = P::read(&mut parts).await?;
        let input = I::read(&parts, body).await?;
        app.scopes().check(&claims, &parts)?;
        tracing::debug!("{} {} of {}", parts.method, parts.uri.path(), claims.sub);
        Ok(Call { app: app.clone(), path, input })
    }
}

/// Parameters in a path.
pub(crate) trait Place: Sized + Send {
    fn read(parts: &mut Parts) -> impl Future<Output = Answer<Self>> + Send;
}

impl Place for () {
    async fn read(_: &mut Parts) -> Answer<()> {
        Ok(())
    }
}

/// Reads parameters in a path, each percent-decoded.
pub(crate) async fn parameters<P: DeserializeOwned + Send>(parts: &mut Parts) -> Answer<P> {
    let path = Path::<P>::from_request_parts(parts, &()).await;
    path.map(|Path(path)| path).map_err(|error| Refusal::malformed(error.body_text()))
}

/// Makes types places: structs with a field for each parameter of the path.
macro_rules! place {
    ($($place:ty),*) => {$(
        impl $crate::call::Place for $place {
            async fn read(parts: &mut axum::http::request::Parts) -> $crate::refusal::Answer<$place> {
                $crate::call::parameters(parts).await
            }
        }
    )*};
}
pub(crate) use place;

/// Query or body of a request.
pub(crate) trait Input: Sized + Send {
    fn read(parts: &Parts, body: Body) -> impl Future<Output = Answer<Self>> + Send;
}

impl Input for () {
    async fn read(_: &Parts, _: Body) -> Answer<()> {
        Ok(())
    }
}

/// A query.
pub(crate) struct Query<Q>(pub(crate) Q);

impl<Q: DeserializeOwned + Send> Input for Query<Q> {
    async fn read(parts: &Parts, _: Body) -> Answer<Query<Q>> {
        // In form encoding the brackets of a map may be percent-encoded, as SDKs do.
        let rules = serde_qs::Config::new().max_depth(QUERY_DEPTH).use_form_encoding(true);
        let query = rules.deserialize_str(parts.uri.query().unwrap_or_default());
        query.map(Query).map_err(|error| Refusal::malformed(format!("query: {error}")))
    }
}

/// A body of JSON, which has to be there.
pub(crate) struct Json<B>(pub(crate) B);

impl<B: DeserializeOwned + Send> Input for Json<B> {
    async fn read(_: &Parts, body: Body) -> Answer<Json<B>> {
        let bytes = bytes(body).await?;
        match bytes.iter().all(u8::is_ascii_whitespace) {
            true => Err(Refusal::malformed("request body has an error: value is required but missing")),
            false => parse(&bytes).map(Json),
        }
    }
}

/// A body of JSON, which may be left out.
pub(crate) struct Optional<B>(pub(crate) B);

impl<B: DeserializeOwned + Default + Send> Input for Optional<B> {
    async fn read(_: &Parts, body: Body) -> Answer<Optional<B>> {
        let bytes = bytes(body).await?;
        match bytes.iter().all(u8::is_ascii_whitespace) {
            true => Ok(Optional(B::default())),
            false => parse::<Option<B>>(&bytes).map(|body| Optional(body.unwrap_or_default())),
        }
    }
}

/// Parses JSON; an error names the field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    // serde takes a list for a struct as well.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::malformed("request body has an error: it has to be an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    let parsed = parsed.map_err(|error| {
        let field = Some(error.path().to_string()).filter(|path| path != ".");
        let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
        Refusal::malformed(format!("request body has an error: {field}{}", error.inner()))
    })?;
    let rest = |error| Refusal::malformed(format!("request body has an error: {error}"));
    deserializer.end().map_err(rest)?;
    Ok(parsed)
}

async fn bytes(body: Body) -> Answer<Vec<u8>> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let late =
        |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request's body did not come in time");
    match read.map_err(late)? {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the request's body has more than {MAX_BODY} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message))
        }
        Err(error) => Err(Refusal::malformed(format!("the request's body broke off: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::http::Uri;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wanted {
        #[serde(default)]
        tags: BTreeMap<String, String>,
        follow: Option<bool>,
        tail: Option<u32>,
    }

    async fn query(query: &str) -> Answer<Wanted> {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let (parts, ()) = axum::http::Request::builder().uri(uri).body(()).unwrap().into_parts();
        Query::<Wanted>::read(&parts, Body::empty()).await.map(|Query(query)| query)
    }

    #[tokio::test]
    async fn a_query_has_maps_as_the_sdks_write_them() {
        for text in [
            "tags[team]=a%20b&tags[env]=x&follow=true&tail=5",
            "tags%5Bteam%5D=a+b&tags%5Benv%5D=x&follow=true&tail=5",
        ] {
            let found = query(text).await.unwrap();
            assert_eq!(
                found.tags,
                BTreeMap::from([("team", "a b"), ("env", "x")].map(|(k, v)| (k.to_owned(), v.to_owned())))
            );
            assert_eq!((found.follow, found.tail), (Some(true), Some(5)), "{text}");
        }
        assert_eq!(query("").await.unwrap(), Wanted { tags: BTreeMap::new(), follow: None, tail: None });
        assert!(query("unknown=1&tags[a.b/c]=1").await.is_ok());
        for bad in ["follow=perhaps", "tail=-1", "tail=x"] {
            assert_eq!(query(bad).await.unwrap_err().code(), "Bad Request", "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded_and_an_error_in_it_names_the_field() {
        let (parts, ()) = axum::http::Request::new(()).into_parts();
        let read = async |text: &str| {
            Json::<Wanted>::read(&parts, Body::from(text.to_owned())).await.map(|Json(body)| body)
        };
        assert_eq!(read(r#"{"tail":3}"#).await.unwrap().tail, Some(3));
        let wrong = read(r#"{"tags":{"a":1}}"#).await.unwrap_err();
        assert!(wrong.message().contains("tags.a"), "{}", wrong.message());
        for bad in ["", " ", "{", "[]", " [null]", "{} x"] {
            assert_eq!(read(bad).await.unwrap_err().code(), "Bad Request", "{bad}");
        }
        let long = format!("{{\"unknown\":\"{}\"}}", "x".repeat(MAX_BODY));
        assert_eq!(read(&long).await.unwrap_err().code(), "body_too_large");
    }
}
