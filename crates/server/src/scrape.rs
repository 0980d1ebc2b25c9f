//! Answers to Prometheus: what is counted, and what the host has now.

use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hypeman_host::Host;
use hypeman_host::stats::{Usage, sample_all, usage};
use hypeman_wire::image::ImageStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{Atomic, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;
use crate::refusal::Answer;
use crate::shown;

/// Content type of the text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of all names, upstream's.
const PREFIX: &str = "hypeman";

type Gauges<L, N, A> = Family<L, Gauge<N, A>>;
type Bytes = Gauges<Vm, u64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: String,
    hypervisor: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InStatus {
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Vm {
    instance_id: String,
    instance_name: String,
}

/// What a host has at a time.
struct Now {
    /// State and hypervisor of each instance.
    states: Vec<(String, String)>,
    images: i64,
    usage: Vec<Usage>,
}

/// Serves the metrics.
pub(crate) fn routes(app: App) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(app)
}

async fn scrape(State(app): State<App>) -> Answer<Response> {
    let now = app.run(now).await?;
    let mut registry = Registry::with_prefix(PREFIX);
    app.metrics().register(&mut registry);
    register_host(&mut registry, &now, &app);
    register_vms(&mut registry, now.usage, &app);
    let mut text = String::new();
    let _ = encode(&mut text, &registry); // a string takes all
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}

fn now(host: &Host) -> hypeman_host::Result<Now> {
    let (instances, _) = host.list()?;
    let seen = host.observe_all(&instances);
    let states = instances.iter().zip(seen).filter_map(|(instance, seen)| {
        let hypervisor = shown::word(shown::hypervisor(instance.record.settings.hypervisor));
        Some((seen.ok()?.state.to_string(), hypervisor))
    });
    let states = states.collect();
    let images = i64::try_from(host.list_images()?.len()).unwrap_or(i64::MAX);
    Ok(Now { states, images, usage: usage(&[], &sample_all(instances))? })
}

fn register_host(registry: &mut Registry, now: &Now, app: &App) {
    let instances: Gauges<InState, i64, _> = Family::<InState, Gauge>::default();
    for (state, hypervisor) in &now.states {
        let labels = InState { state: state.clone(), hypervisor: hypervisor.clone() };
        instances.get_or_create(&labels).inc();
    }
    registry.register("instances_total", "Instances by state", instances);
    let images = Family::<InStatus, Gauge>::default();
    images.get_or_create(&InStatus { status: shown::word(ImageStatus::Ready) }).set(now.images);
    let (mut waiting, jobs) = (0, app.pulls().list());
    for (job, _) in jobs {
        images.get_or_create(&InStatus { status: shown::word(job.status()) }).inc();
        waiting += i64::from(job.status() == ImageStatus::Pending);
    }
    registry.register("images_total", "Images by status", images);
    let queue = Gauge::<i64>::default();
    queue.set(waiting);
    registry.register("images_build_queue_length", "Pulls that wait for others", queue);
}

/// Registers what each VM uses. Those beyond the budget have no labels of their own, and are summed.
fn register_vms(registry: &mut Registry, mut usage: Vec<Usage>, app: &App) {
    let (cpu, [rss, allocated, disk, received, sent]) =
        (Family::<Vm, Gauge<f64, AtomicU64>>::default(), [(); 5].map(|()| Bytes::default()));
    usage.sort_by(|one, other| one.instance_id.cmp(&other.instance_id));
    for (number, one) in usage.into_iter().enumerate() {
        let vm = match number < app.config().metrics.vm_label_budget {
            true => Vm { instance_id: one.instance_id.clone(), instance_name: one.instance_name },
            false => Vm { instance_id: "other".to_owned(), instance_name: "other".to_owned() },
        };
        add(&cpu, &vm, one.cpu_seconds);
        add(&rss, &vm, one.memory_rss_bytes);
        add(&allocated, &vm, one.allocated_memory_bytes);
        add(&disk, &vm, one.disk_used_bytes);
        add(&received, &vm, one.network_rx_bytes.unwrap_or(0));
        add(&sent, &vm, one.network_tx_bytes.unwrap_or(0));
    }
    registry.register_with_unit("vm_cpu", "CPU time of a VM's process", Unit::Seconds, cpu);
    let of_bytes = [
        ("vm_memory_rss", "Resident memory of a VM's process", rss),
        ("vm_allocated_memory", "Largest memory of a VM", allocated),
        ("vm_disk_used", "Size of a VM's disks without holes", disk),
        ("vm_network_rx", "Bytes sent to a VM", received),
        ("vm_network_tx", "Bytes sent by a VM", sent),
    ];
    for (name, help, gauges) in of_bytes {
        registry.register_with_unit(name, help, Unit::Bytes, gauges);
    }
}

fn add<N, A: Atomic<N> + Default>(gauges: &Gauges<Vm, N, A>, vm: &Vm, value: N) {
    gauges.get_or_create(vm).inc_by(value);
}
