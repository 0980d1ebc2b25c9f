//! Pulling of images, in jobs that survive their client. A later server goes on with those it finds.

use std::collections::BTreeMap;
use std::time::Instant;

use hypeman_host::Host;
use hypeman_image::{Image, Login, PullRequest};
use hypeman_record::kind::Kind;
use hypeman_record::pull::{Progress as Recorded, Pull};

use crate::app::App;
use crate::pulls::{Job, State, same_credentials};
use crate::refusal::Answer;

/// An image that was asked for.
pub(crate) enum Asked {
    /// It is here.
    Ready(Box<Image>),
    /// It is being pulled.
    Job(Box<Job>),
}

/// An image whose digest the registry has told.
enum Found {
    Here(Box<Image>),
    Elsewhere(Pull),
}

/// Asks for an image by its whole name: asks the registry for its digest, and has it pulled if it
/// is not here.
///
/// # Errors
/// When the registry has no such image, refuses, or cannot be reached.
pub(crate) async fn ask(
    app: &App,
    name: &str,
    login: Option<Login>,
    tags: BTreeMap<String, String>,
) -> Answer<Asked> {
    if let Some(job) = app.pulls().get(name) {
        return same_credentials(&job, login.as_ref()).map(|()| Asked::Job(Box::new(job)));
    }
    let request = PullRequest { login: login.clone(), ..PullRequest::of(name) };
    let has_credentials = login.is_some();
    let name = name.to_owned();
    let asked = app.run(move |host| {
        let digest = host.resolve_image(&request)?;
        let has_digest = request.reference.contains('@');
        // A tag moves at once to an image that is here.
        let image = match host.image(&digest) {
            Ok(_) if !has_digest => Some(host.tag_image(&digest, &name)?),
            Ok(image) => Some(image),
            Err(_) => None,
        };
        let pull = host.ask_for_pull(&name, &digest, tags, has_credentials)?;
        match image {
            Some(image) => host.end_pull(&pull, None).map(|()| Found::Here(Box::new(image))),
            None => Ok(Found::Elsewhere(pull)),
        }
    });
    match asked.await? {
        Found::Here(image) => Ok(Asked::Ready(image)),
        Found::Elsewhere(pull) => begin(app, pull, login).map(|job| Asked::Job(Box::new(job))),
    }
}

/// Has a pull carried out aside.
fn begin(app: &App, pull: Pull, login: Option<Login>) -> Answer<Job> {
    let (job, is_new) = app.pulls().add(pull, login)?;
    if is_new {
        tokio::spawn(carry_out(app.clone(), job.clone()));
    }
    Ok(job)
}

async fn carry_out(app: App, job: Job) {
    let _room = app.pulls().room.acquire().await;
    let (pull, login, progress) = (job.pull.clone(), job.login.clone(), job.progress.clone());
    let began = Instant::now();
    let pulled = app.run(move |host| host.carry_out_pull(&pull, login, &*progress)).await;
    app.metrics().pulled(began.elapsed(), pulled.is_ok());
    if let Err(refusal) = &pulled {
        tracing::warn!("pull {}: {}", job.pull.name, refusal.message());
    }
    // First the job goes, then its end is told: who looks then finds the image.
    app.pulls().remove(&job);
    job.progress.state.send_replace(State::Ended(pulled.map(drop)));
}

/// Goes on with the pulls that a former server was asked for. One with lent credentials cannot go
/// on without them.
pub(crate) async fn go_on(app: &App) {
    let found = app.run(|host: &Host| {
        let asked = host.pulls()?.into_iter().filter(|pull| pull.progress == Recorded::Asked);
        let (lost, found): (Vec<Pull>, Vec<Pull>) = asked.partition(|pull| pull.has_credentials);
        for pull in lost {
            let error = hypeman_image::Error::Pull {
                reference: pull.name.clone(),
                kind: Kind::Broken,
                reason: "the server ended before it was done; ask for it again with credentials".to_owned(),
            };
            host.end_pull(&pull, Some(&error.into()))?;
        }
        Ok::<_, hypeman_host::Error>(found)
    });
    match found.await {
        Ok(found) => {
            for pull in found {
                tracing::info!("going on with the pull of {}", pull.name);
                let _ = begin(app, pull, None); // nobody else has begun one
            }
        }
        Err(refusal) => {
            tracing::warn!("pulls of a former server are not gone on with: {}", refusal.message())
        }
    }
}
