//! Metrics that are counted as things happen, by upstream's names where it has them.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

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

/// Metrics of a server.
pub(crate) struct Metrics {
    requests: Counter<u64>,
    durations: Histogram<f64>,
    /// By the index of [`OPERATIONS`].
    operations: [Histogram<f64>; 6],
    pulls: Counter<u64>,
    pull_durations: Histogram<f64>,
    exec_sessions: Counter<u64>,
    exec_durations: Histogram<f64>,
    exec_sent: Counter<u64>,
    exec_received: Counter<u64>,
    copy_sessions: Counter<u64>,
    copy_durations: Histogram<f64>,
    copy_bytes: Counter<u64>,
}

fn outcome(is_success: bool) -> KeyValue {
    KeyValue::new("status", if is_success { "success" } else { "error" })
}

fn towards(direction: &'static str) -> KeyValue {
    KeyValue::new("direction", direction)
}

impl Metrics {
    /// Makes the instruments.
    pub(crate) fn new(meter: &Meter) -> Metrics {
        let count =
            |name: &'static str, help: &'static str| meter.u64_counter(name).with_description(help).build();
        let time = |name: String, help: &'static str| {
            let histogram = meter.f64_histogram(name).with_description(help).with_unit("s");
            histogram.with_boundaries(DURATIONS.to_vec()).build()
        };
        let operation =
            |(_, name): (_, &str)| time(format!("instances_{name}_duration"), "Time of the operation");
        Metrics {
            requests: count("http_requests", "Answers by route and status"),
            durations: time("http_request_duration".to_owned(), "Time until an answer began"),
            operations: OPERATIONS.map(operation),
            pulls: count("images_pulls", "Pulls that have ended"),
            pull_durations: time("images_build_duration".to_owned(), "Time of a pull and of making its disk"),
            exec_sessions: count("exec_sessions", "Commands in guests that have ended"),
            exec_durations: time("exec_duration".to_owned(), "Time of a command in a guest"),
            exec_sent: count("exec_bytes_sent", "Output of commands to clients"),
            exec_received: count("exec_bytes_received", "Input of commands from clients"),
            copy_sessions: count("cp_sessions", "Copies that have ended"),
            copy_durations: time("cp_duration".to_owned(), "Time of a copy"),
            copy_bytes: count("cp_bytes", "Bytes of copies"),
        }
    }

    /// Notes the end of a pull.
    pub(crate) fn pulled(&self, took: Duration, is_success: bool) {
        let outcome = [outcome(is_success)];
        self.pulls.add(1, &outcome);
        self.pull_durations.record(took.as_secs_f64(), &outcome);
    }

    /// Notes the end of a command in a guest.
    pub(crate) fn executed(&self, took: Duration, is_success: bool) {
        let outcome = [outcome(is_success)];
        self.exec_sessions.add(1, &outcome);
        self.exec_durations.record(took.as_secs_f64(), &outcome);
    }

    /// Counts bytes to a command in a guest, and from it.
    pub(crate) fn exec_bytes(&self, sent: usize, received: usize) {
        self.exec_sent.add(sent as u64, &[]);
        self.exec_received.add(received as u64, &[]);
    }

    /// Notes the end of a copy, `to` a guest or `from` it.
    pub(crate) fn copied(&self, direction: &'static str, took: Duration, is_success: bool) {
        let copied = [towards(direction), outcome(is_success)];
        self.copy_sessions.add(1, &copied);
        self.copy_durations.record(took.as_secs_f64(), &copied);
    }

    /// Counts bytes of a copy.
    pub(crate) fn copy_bytes(&self, direction: &'static str, bytes: usize) {
        self.copy_bytes.add(bytes as u64, &[towards(direction)]);
    }

    /// Notes an answer.
    pub(crate) fn answered(&self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        let route = [KeyValue::new("method", method.to_string()), KeyValue::new("path", path.to_owned())];
        self.durations.record(took.as_secs_f64(), &route);
        let [method_label, path_label] = route;
        let answered = [method_label, path_label, KeyValue::new("status", i64::from(status.as_u16()))];
        self.requests.add(1, &answered);
        let operation = OPERATIONS.iter().position(|(of, _)| *of == path);
        if let Some(operation) = operation.filter(|_| method == Method::POST) {
            self.operations[operation].record(took.as_secs_f64(), &[outcome(status.is_success())]);
        }
    }
}
