//! Metrics for Prometheus, and telemetry for a collector.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hypeman_tests::bed::Bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{CURL, PROMTOOL, PYTHON_CLIENT, QEMU, tool};
use hypeman_tests::processes::{KilledOnDrop, is_alive};
use hypeman_tests::server::{Server, drivers, sdks};
use hypeman_tests::wait::until;
use rustix::process::Signal;
use serde_json::Value;

use crate::promises;

promises! {
    [QEMU, CURL, PYTHON_CLIENT, PROMTOOL] what_happens_to_a_console_can_be_watched_from_afar;
    [PROMTOOL] alerts_fire_when_they_should;
}

/// So much is told in half a minute, and all that is waited for in a few seconds.
const MOST_TOLD: usize = 2000;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging")
}

/// A port that is free; the server is the next to take it.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    listener.local_addr().expect("an address").port()
}

fn scrape(port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let output = Command::new("curl").args(["-sf", &url]).output().expect("curl");
    String::from_utf8(output.stdout).expect("text")
}

/// The value of a VM's metric.
fn value(text: &str, metric: &str, name: &str) -> Option<f64> {
    let label = format!("instance_name=\"{name}\"");
    let is_it = |line: &&str| line.starts_with(&format!("{metric}{{")) && line.contains(&label);
    text.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

/// A collector, and what it has been told so far is read by `next`.
fn collector() -> (KilledOnDrop, u16, impl FnMut() -> Value) {
    let mut command = Command::new(sdks().join("python/bin/python"));
    command.arg(drivers().join("python/collector.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut process = command.stdout(Stdio::piped()).spawn().expect("python");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let mut next = move || -> Value {
        serde_json::from_str(&lines.next().expect("it is told more").expect("text")).expect("JSON")
    };
    let port = next()["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    (KilledOnDrop(process), port, next)
}

fn what_happens_to_a_console_can_be_watched_from_afar() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let (_collector, collector_port, next) = collector();
    let port = free_port();
    let endpoint = format!("127.0.0.1:{collector_port}");
    let mut server = Server::start_with(
        &bed,
        &[
            ("METRICS__PORT", &port.to_string()),
            ("OTEL__ENABLED", "true"),
            ("OTEL__ENDPOINT", &endpoint),
            ("OTEL__METRIC_EXPORT_INTERVAL", "500ms"),
        ],
    );
    let vm = Guest::new(&bed, "watched").with(&["--log-max-size", "20k", "--log-max-files", "3"]).run();
    let metric = |name: &str| value(&scrape(port), &format!("hypeman_console_{name}_total"), "watched");
    until("the log was rotated", || metric("rotations") > Some(2.0));
    assert!(metric("captured_bytes") > Some(60_000.0), "more than the log has room for");
    assert_eq!((metric("lost_bytes"), metric("adoptions")), (Some(0.0), Some(0.0)));
    let shim = vm.pid("shim");
    vm.kill("shim");
    until("the shim is gone", || !is_alive(shim));
    bed.ok(&["adopt", "watched"]);
    let before = metric("captured_bytes");
    until("it is captured by another", || {
        metric("adoptions") == Some(1.0) && metric("captured_bytes") > before
    });
    assert_eq!(server.ask("GET", "/instances/watched", None).0, 200);
    let text = scrape(port);
    is_well_formed(&text);
    dashboards_and_alerts_name_what_there_is(&text);
    was_sent(next);
    bed.ok(&["rm", "-f", "watched"]);
    until("it has no metrics any more", || metric("captured_bytes").is_none());
    assert_eq!(server.end(Signal::TERM), Some(0), "also with a collector");
}

/// Two of upstream's names are not as Prometheus would have them.
fn is_well_formed(text: &str) {
    let scratch = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(scratch.path(), text).expect("write");
    let input = std::fs::File::open(scratch.path()).expect("open");
    let output =
        Command::new(tool("promtool")).args(["check", "metrics"]).stdin(input).output().expect("promtool");
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let words = "non-counter metrics should not have \"_total\" suffix";
    let (meant, others): (Vec<&str>, Vec<&str>) = told.lines().partition(|line| {
        ["hypeman_instances_total", "hypeman_images_total"]
            .iter()
            .any(|name| *line == format!("{name} {words}"))
    });
    assert_eq!((meant.len(), others), (2, Vec::<&str>::new()), "{text}");
}

/// Metrics that dashboard and alerts ask for are documented, and so are all that are answered.
fn dashboards_and_alerts_name_what_there_is(text: &str) {
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file of the packaging");
    let documents = packaging().with_file_name("docs");
    let documented = read(&documents.join("metrics.md"));
    let documented: Vec<&str> = documented.split('`').filter(|word| word.starts_with("hypeman_")).collect();
    let asked = [
        read(&packaging().join("grafana/hypeman.json")),
        read(&packaging().join("prometheus/hypeman.rules.yaml")),
    ];
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let all = asked.concat() + text;
    let names = all.split(|character| !is_of_name(character)).filter(|word| word.starts_with("hypeman_"));
    let mut count = 0;
    for name in names {
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(documented.contains(&family), "{name}");
        count += 1;
    }
    assert!(count > 50);
    let dashboard: Value = serde_json::from_str(&asked[0]).expect("JSON");
    assert_eq!(dashboard["panels"].as_array().map(Vec::len), Some(12));
}

/// Metrics, messages, and a span of a request in which its message was sent, all of this service.
fn was_sent(mut next: impl FnMut() -> Value) {
    let (mut spans, mut messages, mut has_metric) =
        (BTreeMap::new(), BTreeMap::<String, String>::new(), false);
    for _ in 0..MOST_TOLD {
        let mut told = next();
        assert_eq!(told["service"], "hypeman");
        let trace = told["trace"].take();
        match (told["span"].as_str(), told["message"].as_str(), told["metric"].as_str()) {
            (Some(span), ..) => drop(spans.insert(trace.to_string(), span.to_owned())),
            (_, Some(message), _) => drop(messages.insert(trace.to_string(), message.to_owned())),
            (.., metric) => has_metric |= metric == Some("console_captured"),
        }
        let span = spans.iter().find(|(_, name)| *name == "GET /instances/{id}").map(|(trace, _)| trace);
        let message = span.and_then(|trace| messages.get(trace));
        if message.is_some_and(|message| message.contains("/instances/watched 200")) && has_metric {
            return;
        }
    }
    panic!("spans {spans:?}, messages {messages:?}, metrics {has_metric}");
}

fn alerts_fire_when_they_should() {
    let rules = packaging().join("prometheus/hypeman.rules.yaml");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus/rules.test.yaml");
    let tests = std::fs::read_to_string(tests).expect("the tests");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), tests.replace("RULES", rules.to_str().expect("UTF-8"))).expect("write");
    for arguments in [
        ["check", "rules", rules.to_str().expect("UTF-8")],
        ["test", "rules", file.path().to_str().expect("UTF-8")],
    ] {
        let output = Command::new(tool("promtool")).args(arguments).output().expect("promtool");
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{told}");
    }
}
