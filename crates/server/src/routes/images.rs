//! Images: pulled, listed, named, removed.

use std::time::Duration;

use axum::Json as Body;
use axum::http::StatusCode;
use hypeman_host::Host;
use hypeman_image::{Image, Login, whole_name};
use hypeman_record::pull::{Progress, Pull};
use hypeman_wire::image::{self as wire, CreateImageRequest, RegistryCredentials, TagImageRequest};
use hypeman_wire::{Error, Tags};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::call::{Call, Json, Query, place};
use crate::pulling::{self, Asked};
use crate::refusal::{Answer, Refusal};
use crate::shown;

/// How long a new instance waits for its image, upstream's.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, delete)).routes(routes!(tag))
}

/// Name of an image.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct ImageName {
    /// Name, percent-encoded, as `docker.io%2Flibrary%2Fnginx%3Alatest`.
    name: String,
}
place!(ImageName);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Tags that it has, as `tags[team]=backend`.
    #[serde(default)]
    #[param(style = DeepObject, explode, required = false)]
    tags: Tags,
}

/// Lists images, also those that are being pulled or could not be.
#[utoipa::path(
    get, path = "/images", tag = "Images", operation_id = "listImages", params(Filter),
    security(("bearerAuth" = ["image:read"])),
    responses((status = 200, body = Vec<wire::Image>), (status = "default", body = Error)),
)]
async fn list(call: Call<(), Query<Filter>>) -> Answer<Body<Vec<wire::Image>>> {
    let Query(filter) = call.input;
    let (images, records) =
        call.app.run(|host| Ok::<_, hypeman_host::Error>((host.list_images()?, host.pulls()?))).await?;
    let jobs = call.app.pulls().list();
    let mut shown = Vec::new();
    for image in &images {
        for name in names(image) {
            let tags = records.iter().find(|record| record.name == name).map(|record| &record.tags);
            shown.push(shown::image::ready(&name, image, tags.unwrap_or(&Default::default())));
        }
    }
    let is_ready = |name: &str, digest: &str, shown: &[wire::Image]| {
        shown.iter().any(|image| image.name == name && image.digest == digest)
    };
    for (job, place) in &jobs {
        if !is_ready(&job.pull.name, &job.pull.digest, &shown) {
            shown.push(shown::image::pulled(job, *place));
        }
    }
    for record in records {
        if record.progress != Progress::Done && !shown.iter().any(|image| image.name == record.name) {
            shown.push(shown::image::recorded(&record));
        }
    }
    shown.retain(|image| filter.tags.are_in(image.tags.as_map()));
    Ok(Body(shown))
}

/// The whole names of an image; of one without a name the digest.
fn names(image: &Image) -> Vec<String> {
    let names: Vec<String> = image.names.iter().filter_map(|name| whole_name(name).ok()).collect();
    if names.is_empty() { vec![image.digest.clone()] } else { names }
}

/// Asks for an image, which is pulled in the background. A name moves to another image when that
/// is ready.
#[utoipa::path(
    post, path = "/images", tag = "Images", operation_id = "createImage", request_body = CreateImageRequest,
    security(("bearerAuth" = ["image:write"])),
    responses((status = 202, body = wire::Image), (status = "default", body = Error)),
)]
async fn create(call: Call<(), Json<CreateImageRequest>>) -> Answer<(StatusCode, Body<wire::Image>)> {
    let Json(request) = call.input;
    shown::check_platform(request.platform.as_deref())?;
    let name = whole(&request.name)?;
    let tags = request.tags.clone().into_map();
    let image = match pulling::ask(&call.app, &name, login(request.credentials)?, tags.clone()).await? {
        Asked::Ready(image) => shown::image::ready(&name, &image, &tags),
        Asked::Job(job) => shown::image::pulled(&job, None),
    };
    Ok((StatusCode::ACCEPTED, Body(image)))
}

/// Returns an image, by a name of its or by `name@digest`.
#[utoipa::path(
    get, path = "/images/{name}", tag = "Images", operation_id = "getImage", params(ImageName),
    security(("bearerAuth" = ["image:read"])),
    responses((status = 200, body = wire::Image), (status = "default", body = Error)),
)]
async fn get(call: Call<ImageName>) -> Answer<Body<wire::Image>> {
    let name = whole(&call.path.name)?;
    find(&call.app, &name).await.map(Body)
}

async fn find(app: &App, name: &str) -> Answer<wire::Image> {
    let wanted = name.to_owned();
    let (image, record) =
        app.run(move |host| Ok::<_, Refusal>((here(host, &wanted)?, record(host, &wanted)?))).await?;
    if let Some(image) = image {
        let tags = record.map(|record| record.tags).unwrap_or_default();
        return Ok(shown::image::ready(name, &image, &tags));
    }
    let job = app.pulls().list().into_iter().find(|(job, _)| is_of(&job.pull, name));
    let failed = || record.filter(|record| record.progress != Progress::Done);
    job.map(|(job, place)| shown::image::pulled(&job, place))
        .or_else(|| failed().map(|record| shown::image::recorded(&record)))
        .ok_or_else(|| missing(name))
}

/// Removes a name of an image, and with the last one the image. A pull is cancelled.
#[utoipa::path(
    delete, path = "/images/{name}", tag = "Images", operation_id = "deleteImage", params(ImageName),
    security(("bearerAuth" = ["image:delete"])),
    responses((status = 204), (status = "default", body = Error)),
)]
async fn delete(call: Call<ImageName>) -> Answer<StatusCode> {
    let name = whole(&call.path.name)?;
    let was_pulled = call.app.pulls().cancel(&name);
    let removed = call.app.run(move |host| {
        let is_recorded = host.pull(&name)?.is_some_and(|record| record.progress != Progress::Done);
        let found = here(host, &name)?;
        if let Some(image) = &found {
            host.remove_image(if name.contains('@') { &image.digest } else { &name })?;
        }
        host.forget_pull(&name)?;
        match found.is_some() || is_recorded || was_pulled {
            true => Ok(()),
            false => Err(missing(&name)),
        }
    });
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

/// Gives an image another name.
#[utoipa::path(
    post, path = "/images/{name}/tag", tag = "Images", operation_id = "tagImage", params(ImageName),
    request_body = TagImageRequest, security(("bearerAuth" = ["image:write"])),
    responses((status = 200, body = wire::Image), (status = "default", body = Error)),
)]
async fn tag(call: Call<ImageName, Json<TagImageRequest>>) -> Answer<Body<wire::Image>> {
    let Json(TagImageRequest { target }) = call.input;
    let (name, target) = (whole(&call.path.name)?, whole(&target)?);
    if target.contains('@') {
        return Err(Refusal::invalid("invalid_name", format!("{target}: a name with a digest is not given")));
    }
    let is_pulled = call.app.pulls().list().iter().any(|(job, _)| is_of(&job.pull, &name));
    let tagged = call.app.run(move |host| match here(host, &name)? {
        Some(image) => {
            let image = host.tag_image(&image.digest, &target)?;
            Ok(shown::image::ready(&target, &image, &Default::default()))
        }
        None if is_pulled => Err(not_ready(&name)),
        None => Err(missing(&name)),
    });
    tagged.await.map(Body)
}

/// Sees to it that an image is here for a new instance; `asks_registry` also when one has its name.
///
/// # Errors
/// `image_not_ready` when it takes longer than a few seconds; it is pulled all the same.
pub(super) async fn provide(app: &App, reference: &str, asks_registry: bool) -> Answer<()> {
    let name = whole(reference)?;
    if !asks_registry {
        let wanted = name.clone();
        if app.run(move |host| here(host, &wanted)).await?.is_some() {
            return Ok(());
        }
    }
    match pulling::ask(app, &name, None, Default::default()).await? {
        Asked::Ready(_) => Ok(()),
        Asked::Job(job) => job.ended(PATIENCE).await.unwrap_or_else(|| Err(not_ready(&name))),
    }
}

/// The image of this whole name, or of the digest in it, if it is here.
fn here(host: &Host, name: &str) -> Answer<Option<Image>> {
    let image = match host.image(name) {
        Err(hypeman_host::Error::Image(
            hypeman_image::Error::NotFound(_) | hypeman_image::Error::Ambiguous(_),
        )) => {
            return Ok(None);
        }
        image => image?,
    };
    // The host also takes the beginning of a digest for a name.
    let digest = name.split_once('@').map(|(_, digest)| digest);
    let is_it = digest == Some(&image.digest) || names(&image).iter().any(|other| other == name);
    Ok(Some(image).filter(|_| is_it))
}

/// The record of the pull of a whole name, or of the digest in it.
fn record(host: &Host, name: &str) -> hypeman_host::Result<Option<Pull>> {
    match name.contains('@') {
        true => Ok(host.pulls()?.into_iter().find(|record| is_of(record, name))),
        false => host.pull(name),
    }
}

/// Whether a pull is of this whole name, or of the digest in it.
fn is_of(pull: &Pull, name: &str) -> bool {
    match name.split_once('@') {
        Some((_, digest)) => pull.digest == digest,
        None => pull.name == name,
    }
}

fn whole(name: &str) -> Answer<String> {
    whole_name(name).map_err(|error| Refusal::invalid("invalid_name", error.to_string()))
}

fn missing(name: &str) -> Refusal {
    Refusal::not_found(format!("no such image: {name}"))
}

fn not_ready(name: &str) -> Refusal {
    let message = format!("image {name} is being pulled, please try again shortly");
    Refusal::invalid("image_not_ready", message)
}

/// The credentials that were lent; empty ones are the server's own.
fn login(credentials: Option<RegistryCredentials>) -> Answer<Option<Login>> {
    let Some(RegistryCredentials { username, password, registry_token }) = credentials else {
        return Ok(None);
    };
    let set = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (set(username), set(password), set(registry_token)) {
        (None, None, None) => Ok(None),
        (None, None, Some(token)) => Ok(Some(Login::Token(token))),
        (Some(user), Some(password), None) => Ok(Some(Login::Password { user, password })),
        _ => {
            let message = "credentials: give username and password, or registry_token";
            Err(Refusal::invalid("invalid_request", message))
        }
    }
}
