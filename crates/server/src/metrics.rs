//! Metrics for Prometheus, by upstream's names where it has them.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of durations, in seconds.
const DURATIONS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Operations on instances whose durations have metrics of their own.
const OPERATIONS: [(&str, &str); 6] = [
    ("/instances", "create"),
    ("/instances/{id}/start", "start"),
    ("/instances/{id}/stop", "stop"),
    ("/instances/{id}/standby", "standby"),
    ("/instances/{id}/restore", "restore"),
    ("/instances/{id}/fork", "fork"),
];

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Metrics of a server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    durations: Durations<Route>,
    /// By the index of [`OPERATIONS`].
    operations: [Durations<Outcome>; 6],
    pulls: Family<Outcome, Counter>,
    pull_durations: Durations<Outcome>,
    exec_sessions: Family<Outcome, Counter>,
    exec_durations: Durations<Outcome>,
    exec_sent: Counter,
    exec_received: Counter,
    copy_sessions: Family<Copied, Counter>,
    copy_durations: Durations<Copied>,
    copy_bytes: Family<Towards, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    #[prometheus(flatten)]
    route: Route,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: String,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Copied {
    direction: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Towards {
    direction: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new(DURATIONS)
}

fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Family::new_with_constructor(histogram)
}

fn status(is_success: bool) -> &'static str {
    if is_success { "success" } else { "error" }
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            requests: Family::default(),
            durations: durations(),
            operations: std::array::from_fn(|_| durations()),
            pulls: Family::default(),
            pull_durations: durations(),
            exec_sessions: Family::default(),
            exec_durations: durations(),
            exec_sent: Counter::default(),
            exec_received: Counter::default(),
            copy_sessions: Family::default(),
            copy_durations: durations(),
            copy_bytes: Family::default(),
        }
    }

    /// Notes the end of a pull.
    pub(crate) fn pulled(&self, took: Duration, is_success: bool) {
        let outcome = Outcome { status: status(is_success) };
        self.pulls.get_or_create(&outcome).inc();
        self.pull_durations.get_or_create(&outcome).observe(took.as_secs_f64());
    }

    /// Notes the end of a command in a guest.
    pub(crate) fn executed(&self, took: Duration, is_success: bool) {
        let outcome = Outcome { status: status(is_success) };
        self.exec_sessions.get_or_create(&outcome).inc();
        self.exec_durations.get_or_create(&outcome).observe(took.as_secs_f64());
    }

    /// Counts bytes to a command in a guest, and from it.
    pub(crate) fn exec_bytes(&self, sent: usize, received: usize) {
        self.exec_sent.inc_by(sent as u64);
        self.exec_received.inc_by(received as u64);
    }

    /// Notes the end of a copy, `to` a guest or `from` it.
    pub(crate) fn copied(&self, direction: &'static str, took: Duration, is_success: bool) {
        let copied = Copied { direction, status: status(is_success) };
        self.copy_sessions.get_or_create(&copied).inc();
        self.copy_durations.get_or_create(&copied).observe(took.as_secs_f64());
    }

    /// Counts bytes of a copy.
    pub(crate) fn copy_bytes(&self, direction: &'static str, bytes: usize) {
        self.copy_bytes.get_or_create(&Towards { direction }).inc_by(bytes as u64);
    }

    /// Notes an answer.
    pub(crate) fn answered(&self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        let route = Route { method: method.to_string(), path: path.to_owned() };
        self.requests.get_or_create(&Answered { route: route.clone(), status: status.as_u16() }).inc();
        self.durations.get_or_create(&route).observe(took.as_secs_f64());
        let operation = OPERATIONS.iter().position(|(of, _)| *of == path);
        if let Some(operation) = operation.filter(|_| method == Method::POST) {
            let outcome = Outcome { status: self::status(status.is_success()) };
            self.operations[operation].get_or_create(&outcome).observe(took.as_secs_f64());
        }
    }

    /// Registers all that is counted.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Answers by route and status", self.requests.clone());
        timed(registry, "http_request_duration", "Time until an answer began", &self.durations);
        for (durations, (_, operation)) in self.operations.iter().zip(OPERATIONS) {
            let name = format!("instances_{operation}_duration");
            timed(registry, &name, "Time of the operation", durations);
        }
        registry.register("images_pulls", "Pulls that have ended", self.pulls.clone());
        let help = "Time of a pull and of making its disk";
        timed(registry, "images_build_duration", help, &self.pull_durations);
        registry.register("exec_sessions", "Commands in guests that have ended", self.exec_sessions.clone());
        timed(registry, "exec_duration", "Time of a command in a guest", &self.exec_durations);
        registry.register("exec_bytes_sent", "Output of commands to clients", self.exec_sent.clone());
        registry.register(
            "exec_bytes_received",
            "Input of commands from clients",
            self.exec_received.clone(),
        );
        registry.register("cp_sessions", "Copies that have ended", self.copy_sessions.clone());
        timed(registry, "cp_duration", "Time of a copy", &self.copy_durations);
        registry.register("cp_bytes", "Bytes of copies", self.copy_bytes.clone());
    }
}

/// Registers durations.
fn timed<L>(registry: &mut Registry, name: &str, help: &str, durations: &Durations<L>)
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
{
    registry.register_with_unit(name, help, Unit::Seconds, durations.clone());
}
