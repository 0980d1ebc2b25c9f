//! Samples of a host for its metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hypeman_host::Host;
use hypeman_host::console::{Console, console};
use hypeman_host::stats::{Usage, sample_all, usage};
use hypeman_wire::image::ImageStatus;

use crate::app::App;
use crate::shown;

/// Age to which a sample serves: all metrics of a scrape are of the same one.
const FRESH: Duration = Duration::from_secs(1);

/// A sample of a host.
pub(crate) struct Sample {
    /// Number of instances by state and hypervisor.
    pub(crate) states: BTreeMap<(String, String), i64>,
    /// Number of images by status.
    pub(crate) images: BTreeMap<String, i64>,
    /// Pulls that wait for others.
    pub(crate) waiting: i64,
    /// VMs that run, by id.
    pub(crate) vms: Vec<Vm>,
}

/// A VM that runs.
pub(crate) struct Vm {
    /// The resources that it uses.
    pub(crate) usage: Usage,
    /// Counts of its console's log.
    pub(crate) console: Console,
}

/// Takes a sample when one is asked for and the last is old.
pub(crate) struct Sampler {
    app: App,
    last: Mutex<Option<(Instant, Arc<Sample>)>>,
}

impl Sampler {
    pub(crate) fn new(app: App) -> Sampler {
        Sampler { app, last: Mutex::new(None) }
    }

    /// Returns a fresh sample; `None` when the host cannot be read. Blocks.
    pub(crate) fn sample(&self) -> Option<Arc<Sample>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, sample)) = &*last
            && at.elapsed() < FRESH
        {
            return Some(sample.clone());
        }
        match sample(&self.app) {
            Ok(sample) => {
                let sample = Arc::new(sample);
                *last = Some((Instant::now(), sample.clone()));
                Some(sample)
            }
            Err(error) => {
                tracing::warn!("no metrics of the host: {error}");
                None
            }
        }
    }
}

fn sample(app: &App) -> hypeman_host::Result<Sample> {
    let host = app.host();
    let (states, vms) = instances(host)?;
    let ready = i64::try_from(host.list_images()?.len()).unwrap_or(i64::MAX);
    let mut images = BTreeMap::from([(shown::word(ImageStatus::Ready), ready)]);
    let mut waiting = 0;
    for (job, _) in app.pulls().list() {
        *images.entry(shown::word(job.status())).or_default() += 1;
        waiting += i64::from(job.status() == ImageStatus::Pending);
    }
    Ok(Sample { states, images, waiting, vms })
}

type States = BTreeMap<(String, String), i64>;

fn instances(host: &Host) -> hypeman_host::Result<(States, Vec<Vm>)> {
    let (instances, _) = host.list()?;
    let seen = host.observe_all(&instances);
    let (mut states, mut consoles) = (States::new(), BTreeMap::new());
    for (instance, seen) in instances.iter().zip(seen) {
        let Ok(seen) = seen else { continue }; // it was removed
        let hypervisor = shown::word(shown::hypervisor(instance.record.settings.hypervisor));
        *states.entry((seen.state.to_string(), hypervisor)).or_default() += 1;
        consoles.insert(instance.record.id.clone(), console(instance, &seen));
    }
    let mut vms: Vec<Vm> = usage(&[], &sample_all(instances))?
        .into_iter()
        .map(|usage| Vm { console: consoles.get(&usage.instance_id).copied().unwrap_or_default(), usage })
        .collect();
    vms.sort_by(|one, other| one.usage.instance_id.cmp(&other.usage.instance_id));
    Ok((states, vms))
}
