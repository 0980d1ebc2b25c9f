//! Telemetry by OpenTelemetry: metrics for Prometheus, and traces, metrics and our own logs for a
//! collector, if one is configured.

use std::time::Duration;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, registry};

use crate::config::{Config, Otel};

/// Prefix of all metrics for Prometheus, upstream's.
const PREFIX: &str = "hypeman";

/// Timeout for what is left to send when the server ends.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// Labels of one metric beside those of VMs: routes and their statuses at most.
const LABELS: usize = 2000;

/// Receives the spans and messages of this process.
pub type Receiver = Box<dyn Layer<registry::Registry> + Send + Sync>;

/// Error of telemetry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The collector cannot be used.
    #[error("send telemetry to {endpoint}")]
    Collector {
        /// The address of the collector.
        endpoint: String,
        /// The reason.
        source: ExporterBuildError,
    },
    /// Prometheus' registry refuses.
    #[error("make metrics for Prometheus")]
    Metrics(#[from] opentelemetry_sdk::error::OTelSdkError),
}

/// Telemetry of a server.
pub struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    sent: Option<(SdkTracerProvider, SdkLoggerProvider)>,
}

impl Telemetry {
    /// Begins to collect, and to send when the configuration wants that.
    ///
    /// # Errors
    /// When the address of the collector cannot be used.
    pub fn start(config: &Config) -> Result<Telemetry, Error> {
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .with_namespace(PREFIX)
            .scope_info_enabled(false)
            .without_target_info()
            .build()?;
        // One beyond the budget: the sum of the others.
        let limit = LABELS.max(config.metrics.vm_label_budget + 1);
        let labels = move |_: &Instrument| Stream::builder().with_cardinality_limit(limit).build().ok();
        let meters = SdkMeterProvider::builder().with_reader(prometheus).with_view(labels);
        if !config.otel.enabled {
            return Ok(Telemetry { registry, meters: meters.build(), sent: None });
        }
        let _ = rustls::crypto::ring::default_provider().install_default(); // a pull may have done it
        let otel = &config.otel;
        let invalid = |source| Error::Collector { endpoint: otel.base(), source };
        let resource = resource(otel);
        let metrics = PeriodicReader::builder(metrics(otel).map_err(invalid)?)
            .with_interval(otel.metric_export_interval.0)
            .build();
        let tracers = SdkTracerProvider::builder()
            .with_batch_exporter(spans(otel).map_err(invalid)?)
            .with_resource(resource.clone());
        let loggers = SdkLoggerProvider::builder()
            .with_batch_exporter(logs(otel).map_err(invalid)?)
            .with_resource(resource.clone());
        Ok(Telemetry {
            registry,
            meters: meters.with_reader(metrics).with_resource(resource).build(),
            sent: Some((tracers.build(), loggers.build())),
        })
    }

    /// Returns what sends spans and messages to the collector, if there is one: all but details for
    /// debugging.
    #[must_use]
    pub fn receiver(&self) -> Option<Receiver> {
        let (tracers, loggers) = self.sent.as_ref()?;
        let spans = tracing_opentelemetry::layer().with_tracer(tracers.tracer(PREFIX));
        let messages = OpenTelemetryTracingBridge::new(loggers);
        // The libraries that send have messages as well.
        let ours =
            filter_fn(|metadata| metadata.target().starts_with(PREFIX) && *metadata.level() <= Level::INFO);
        Some(spans.and_then(messages).with_filter(ours).boxed())
    }

    /// Prometheus' registry.
    pub(crate) fn registry(&self) -> Registry {
        self.registry.clone()
    }

    pub(crate) fn meter(&self) -> Meter {
        self.meters.meter(PREFIX)
    }

    /// Sends what is left. Blocks, for a few seconds at most.
    pub(crate) fn end(self) {
        let Some((tracers, loggers)) = self.sent else { return };
        let ended = [
            tracers.shutdown_with_timeout(LAST_EXPORT),
            loggers.shutdown_with_timeout(LAST_EXPORT),
            self.meters.shutdown_with_timeout(LAST_EXPORT),
        ];
        for error in ended.into_iter().filter_map(Result::err) {
            tracing::warn!("some telemetry was not sent: {error}");
        }
    }
}

fn resource(otel: &Otel) -> Resource {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let instance = otel.service_instance_id.clone().unwrap_or(host);
    Resource::builder()
        .with_service_name(otel.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.instance.id", instance))
        .build()
}

fn metrics(otel: &Otel) -> Result<MetricExporter, ExporterBuildError> {
    MetricExporter::builder().with_http().with_endpoint(otel.url("metrics")).build()
}

fn spans(otel: &Otel) -> Result<SpanExporter, ExporterBuildError> {
    SpanExporter::builder().with_http().with_endpoint(otel.url("traces")).build()
}

fn logs(otel: &Otel) -> Result<LogExporter, ExporterBuildError> {
    LogExporter::builder().with_http().with_endpoint(otel.url("logs")).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::{Method, StatusCode};

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn every_metric_that_is_counted_is_documented() {
        let telemetry = Telemetry::start(&Config::default()).unwrap();
        let metrics = Metrics::new(&telemetry.meter());
        let took = Duration::from_millis(1);
        for operation in ["", "/{id}/start", "/{id}/stop", "/{id}/standby", "/{id}/restore", "/{id}/fork"] {
            metrics.answered(&Method::POST, &format!("/instances{operation}"), StatusCode::OK, took);
        }
        metrics.pulled(took, true);
        metrics.executed(took, true);
        metrics.exec_bytes(1, 1);
        metrics.copied("to", took, true);
        metrics.copy_bytes("to", 1);
        let documented = include_str!("../../../docs/metrics.md");
        let documented: BTreeSet<&str> =
            documented.split('`').filter(|word| word.starts_with(PREFIX)).collect();
        let families = telemetry.registry().gather();
        let names: BTreeSet<&str> = families.iter().map(|family| family.name()).collect();
        assert_eq!(names.len(), 17, "{names:?}");
        assert_eq!(names.difference(&documented).collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[test]
    fn an_address_is_a_host_and_a_port_or_a_url() {
        let url = |endpoint: &str, insecure| {
            Otel { endpoint: endpoint.to_owned(), insecure, ..Otel::default() }.url("logs")
        };
        assert_eq!(url("10.0.0.1:4318", true), "http://10.0.0.1:4318/v1/logs");
        assert_eq!(url("collector:4318", false), "https://collector:4318/v1/logs");
        assert_eq!(url("https://collector/otlp/", true), "https://collector/otlp/v1/logs");
        let config = Config {
            otel: Otel { enabled: true, endpoint: "a b".to_owned(), ..Otel::default() },
            ..Config::default()
        };
        let error = Telemetry::start(&config).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("send telemetry to http://a b"));
    }
}
