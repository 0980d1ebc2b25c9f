//! Pulls of images: jobs that survive their client. A later server goes on with those it finds.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hypeman_host::Host;
use hypeman_image::{Image, Login, Progress, PullRequest, Stage};
use hypeman_record::pull::{Progress as Recorded, Pull};
use hypeman_wire::image::ImageStatus;
use tokio::sync::{Semaphore, watch};

use crate::app::App;
use crate::refusal::{Answer, Refusal};

/// The pulls of a server.
pub(crate) struct Pulls {
    /// Those that are not done, by the whole name of the image.
    jobs: Mutex<HashMap<String, Job>>,
    /// Room for those that are carried out at once.
    room: Semaphore,
    next: AtomicU64,
}

/// A pull that is not done.
#[derive(Clone)]
pub(crate) struct Job {
    /// Its record.
    pub(crate) pull: Pull,
    login: Option<Login>,
    /// Its place in the order of all.
    number: u64,
    progress: Arc<JobProgress>,
    state: watch::Receiver<State>,
}

/// State of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits for others.
    Waiting,
    /// It is carried out.
    At(Stage),
    /// It has ended.
    Ended(Answer<()>),
}

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

struct JobProgress {
    state: watch::Sender<State>,
    is_cancelled: AtomicBool,
}

impl Progress for JobProgress {
    fn start(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, message: &str) {
        tracing::warn!("{message}");
    }
    fn stage(&self, stage: Stage) {
        self.state.send_replace(State::At(stage));
    }
    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

impl Job {
    /// How far it is.
    pub(crate) fn status(&self) -> ImageStatus {
        match &*self.state.borrow() {
            State::Waiting => ImageStatus::Pending,
            State::At(Stage::Pulling) => ImageStatus::Pulling,
            State::At(Stage::Converting) => ImageStatus::Converting,
            State::Ended(Ok(())) => ImageStatus::Ready,
            State::Ended(Err(_)) => ImageStatus::Failed,
        }
    }

    /// Waits for its end; `None` when the time is up before.
    pub(crate) async fn ended(mut self, timeout: Duration) -> Option<Answer<()>> {
        let ended = self.state.wait_for(|state| matches!(state, State::Ended(_)));
        match tokio::time::timeout(timeout, ended).await.ok()?.as_deref() {
            Ok(State::Ended(answer)) => Some(answer.clone()),
            _ => Some(Err(Refusal::internal("the pull was broken off"))),
        }
    }
}

impl Pulls {
    pub(crate) fn new(at_once: usize) -> Pulls {
        let room = Semaphore::new(at_once.max(1));
        Pulls { jobs: Mutex::default(), room, next: AtomicU64::new(0) }
    }

    /// Lists the pulls that are not done, in their order, each with its place among those that wait.
    pub(crate) fn list(&self) -> Vec<(Job, Option<u32>)> {
        let mut jobs: Vec<Job> = self.lock().values().cloned().collect();
        jobs.sort_by_key(|job| job.number);
        let mut place = 0;
        let placed = jobs.into_iter().map(|job| {
            let is_waiting = job.status() == ImageStatus::Pending;
            place += u32::from(is_waiting);
            (job, is_waiting.then_some(place))
        });
        placed.collect()
    }

    /// Returns the pull of an image, by its whole name.
    pub(crate) fn get(&self, name: &str) -> Option<Job> {
        self.lock().get(name).cloned()
    }

    /// Cancels the pull of an image, if it is not done; whether there was one.
    pub(crate) fn cancel(&self, name: &str) -> bool {
        let job = self.lock().remove(name);
        job.inspect(|job| job.progress.is_cancelled.store(true, Ordering::Relaxed)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, if the name has none; returns the one that it has, and whether it is new.
    fn add(&self, pull: Pull, login: Option<Login>) -> Answer<(Job, bool)> {
        let mut jobs = self.lock();
        if let Some(job) = jobs.get(&pull.name) {
            return same_credentials(job, login.as_ref()).map(|()| (job.clone(), false));
        }
        let (state, receiver) = watch::channel(State::Waiting);
        let job = Job {
            login,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            progress: Arc::new(JobProgress { state, is_cancelled: AtomicBool::new(false) }),
            state: receiver,
            pull,
        };
        jobs.insert(job.pull.name.clone(), job.clone());
        Ok((job, true))
    }

    /// Removes a job that has ended, unless its name has another by now.
    fn remove(&self, job: &Job) {
        let mut jobs = self.lock();
        if jobs.get(&job.pull.name).is_some_and(|other| other.number == job.number) {
            jobs.remove(&job.pull.name);
        }
    }
}

/// Refuses credentials that are not those of the pull that is under way.
fn same_credentials(job: &Job, login: Option<&Login>) -> Answer<()> {
    if job.login.as_ref() == login {
        return Ok(());
    }
    let message =
        format!("{} is being pulled with other credentials; try again when that is done", job.pull.name);
    Err(Refusal::conflict("credential_conflict", message).passing())
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
                kind: hypeman_record::kind::Kind::Broken,
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
