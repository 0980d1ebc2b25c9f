//! Pulls of images that are under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hypeman_image::{Login, Progress, Stage};
use hypeman_record::pull::Pull;
use hypeman_wire::image::ImageStatus;
use tokio::sync::{Semaphore, watch};

use crate::refusal::{Answer, Refusal};

/// The pulls of a server.
pub(crate) struct Pulls {
    /// Those that are not done, by the whole name of the image.
    jobs: Mutex<HashMap<String, Job>>,
    /// Room for those that are carried out at once.
    pub(crate) room: Semaphore,
    next: AtomicU64,
}

/// A pull that is not done.
#[derive(Clone)]
pub(crate) struct Job {
    /// Its record.
    pub(crate) pull: Pull,
    pub(crate) login: Option<Login>,
    /// Its place in the order of all.
    number: u64,
    pub(crate) progress: Arc<JobProgress>,
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

/// Progress of a job, as its pull tells it.
pub(crate) struct JobProgress {
    pub(crate) state: watch::Sender<State>,
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
        match &*self.progress.state.borrow() {
            State::Waiting => ImageStatus::Pending,
            State::At(Stage::Pulling) => ImageStatus::Pulling,
            State::At(Stage::Converting) => ImageStatus::Converting,
            State::Ended(Ok(())) => ImageStatus::Ready,
            State::Ended(Err(_)) => ImageStatus::Failed,
        }
    }

    /// Waits for its end; `None` when the time is up before.
    pub(crate) async fn ended(&self, timeout: Duration) -> Option<Answer<()>> {
        let mut state = self.progress.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_)));
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
    pub(crate) fn add(&self, pull: Pull, login: Option<Login>) -> Answer<(Job, bool)> {
        let mut jobs = self.lock();
        if let Some(job) = jobs.get(&pull.name) {
            return same_credentials(job, login.as_ref()).map(|()| (job.clone(), false));
        }
        let state = watch::Sender::new(State::Waiting);
        let job = Job {
            login,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            progress: Arc::new(JobProgress { state, is_cancelled: AtomicBool::new(false) }),
            pull,
        };
        jobs.insert(job.pull.name.clone(), job.clone());
        Ok((job, true))
    }

    /// Removes a job that has ended, unless its name has another by now.
    pub(crate) fn remove(&self, job: &Job) {
        let mut jobs = self.lock();
        if jobs.get(&job.pull.name).is_some_and(|other| other.number == job.number) {
            jobs.remove(&job.pull.name);
        }
    }
}

/// Refuses credentials that are not those of the pull that is under way.
pub(crate) fn same_credentials(job: &Job, login: Option<&Login>) -> Answer<()> {
    if job.login.as_ref() == login {
        return Ok(());
    }
    let message =
        format!("{} is being pulled with other credentials; try again when that is done", job.pull.name);
    Err(Refusal::conflict("credential_conflict", message).passing())
}
