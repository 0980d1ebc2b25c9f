//! The configuration of the server: YAML, and variables of the environment over it, by upstream's
//! names (`limits.max_vcpus_per_instance` is `LIMITS__MAX_VCPUS_PER_INSTANCE`).

mod environment;
mod file;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hypeman_wire::human::parse_duration;
use hypeman_wire::instance::Hypervisor;
use serde::{Deserialize, Serialize};

/// Names the file.
const PATH: &str = "CONFIG_PATH";

/// The file of the system, and the user's below `HOME`.
const SYSTEM: &str = "/etc/hypeman/config.yaml";
const USER: &str = ".config/hypeman/config.yaml";

/// Configuration of the server. What upstream has and is not here, does not exist here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Addresses to listen on, as `127.0.0.1:4973` or `unix:/run/hypeman.sock`; ours alone. The
    /// port of 127.0.0.1 when empty.
    pub listen: Vec<String>,
    /// Port of 127.0.0.1, when no address is given.
    pub port: u16,
    /// Data directory; the usual one when absent.
    pub data_dir: Option<PathBuf>,
    /// Secret by which tokens are signed; one in the data directory when empty.
    pub jwt_secret: String,
    /// Network of instances.
    pub network: NetworkConfig,
    /// Hypervisors.
    pub hypervisor: HypervisorConfig,
    /// Limits of what clients may ask for.
    pub limits: Limits,
    /// Metrics for Prometheus.
    pub metrics: MetricsConfig,
    /// Telemetry for a collector.
    pub otel: Otel,
    /// Messages of the server.
    pub logging: Logging,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: Vec::new(),
            port: 4973,
            data_dir: None,
            jwt_secret: String::new(),
            network: NetworkConfig::default(),
            hypervisor: HypervisorConfig::default(),
            limits: Limits::default(),
            metrics: MetricsConfig::default(),
            otel: Otel::default(),
            logging: Logging::default(),
        }
    }
}

/// Configuration of the network of instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// Network of instances: a name, `user` or `none`; ours alone. The best that the host can give
    /// when absent.
    pub default: Option<String>,
}

/// Configuration of hypervisors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HypervisorConfig {
    /// Hypervisor of instances that name none.
    pub default: Hypervisor,
}

impl Default for HypervisorConfig {
    fn default() -> HypervisorConfig {
        HypervisorConfig { default: Hypervisor::Qemu }
    }
}

/// Limits of what clients may ask for; the command line has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most vCPUs of an instance.
    pub max_vcpus_per_instance: u32,
    /// Most memory of an instance.
    pub max_memory_per_instance: ByteSize,
    /// Largest writable disk of an instance.
    pub max_overlay_size: ByteSize,
    /// Most images that are pulled at once; the others wait.
    pub max_concurrent_builds: usize,
}

/// Upstream's, but for images: as docker, three at once.
impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_vcpus_per_instance: 16,
            max_memory_per_instance: ByteSize(32 << 30),
            max_overlay_size: ByteSize(100 << 30),
            max_concurrent_builds: 3,
        }
    }
}

/// Configuration of metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsConfig {
    /// Address on which they are served, without a token.
    pub listen_address: IpAddr,
    /// Port on which they are served; 0 is none.
    pub port: u16,
    /// Most VMs that have labels of their own.
    pub vm_label_budget: usize,
}

impl Default for MetricsConfig {
    fn default() -> MetricsConfig {
        MetricsConfig { listen_address: Ipv4Addr::LOCALHOST.into(), port: 9464, vm_label_budget: 200 }
    }
}

/// Configuration of the collector of traces, metrics and messages, by OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Otel {
    /// Whether there is one.
    pub enabled: bool,
    /// Address of the collector: host and port, or the beginning of a URL.
    pub endpoint: String,
    /// Name of this service.
    pub service_name: String,
    /// Name of this one among several; that of the host when absent.
    pub service_instance_id: Option<String>,
    /// Whether an address without a scheme is spoken to without TLS.
    pub insecure: bool,
    /// Time between two exports of metrics.
    pub metric_export_interval: Interval,
}

/// Upstream's, but for the port: it speaks gRPC, on 4317.
impl Default for Otel {
    fn default() -> Otel {
        Otel {
            enabled: false,
            endpoint: "127.0.0.1:4318".to_owned(),
            service_name: "hypeman".to_owned(),
            service_instance_id: None,
            insecure: true,
            metric_export_interval: Interval(Duration::from_secs(60)),
        }
    }
}

impl Otel {
    /// Returns the URL of the collector.
    pub(crate) fn base(&self) -> String {
        let scheme = match (self.endpoint.contains("://"), self.insecure) {
            (true, _) => "",
            (false, true) => "http://",
            (false, false) => "https://",
        };
        format!("{scheme}{}", self.endpoint.trim_end_matches('/'))
    }

    /// Returns the URL of a signal: `traces`, `metrics` or `logs`
    /// (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>).
    pub(crate) fn url(&self, signal: &str) -> String {
        format!("{}/v1/{signal}", self.base())
    }
}

/// Time between two events, written as `60s`; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(pub Duration);

impl TryFrom<String> for Interval {
    type Error = String;

    fn try_from(text: String) -> Result<Interval, String> {
        match parse_duration(&text)? {
            Duration::ZERO => Err(format!("{text:?} is no interval; give one like 30s")),
            interval => Ok(Interval(interval)),
        }
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> String {
        format!("{}ms", interval.0.as_millis())
    }
}

/// Configuration of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Least severe level that is shown.
    pub level: Level,
}

impl Default for Logging {
    fn default() -> Logging {
        Logging { level: Level::Info }
    }
}

/// Level of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything.
    Debug,
    /// Each request.
    Info,
    /// What an operator should look at.
    #[serde(alias = "warning")]
    Warn,
    /// What has failed.
    Error,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> tracing::Level {
        match level {
            Level::Debug => tracing::Level::DEBUG,
            Level::Info => tracing::Level::INFO,
            Level::Warn => tracing::Level::WARN,
            Level::Error => tracing::Level::ERROR,
        }
    }
}

/// Size in bytes, written as `32GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl TryFrom<String> for ByteSize {
    type Error = String;

    fn try_from(text: String) -> Result<ByteSize, String> {
        hypeman_host::size::parse(&text).map(ByteSize).map_err(|reason| format!("{text:?}: {reason}"))
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.0.to_string()
    }
}

/// A configuration that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The configuration.
    pub config: Config,
    /// Its file, if there is one.
    pub file: Option<PathBuf>,
    /// Warnings, each in a sentence.
    pub warnings: Vec<String>,
}

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Invalid {
    /// File, line and key; or variable.
    pub place: String,
    /// The reason.
    pub reason: String,
}

impl Config {
    /// Finds the configuration: in `file`, else in the file that `CONFIG_PATH` names, else in
    /// `/etc/hypeman/config.yaml` or `~/.config/hypeman/config.yaml`; and variables of the
    /// environment go over it.
    ///
    /// # Errors
    /// When a file that was named is not there, or a value cannot be used.
    pub fn find(file: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Result<Found, Invalid> {
        let named = file.map(Path::to_owned).or_else(|| variable(PATH).map(PathBuf::from));
        let usual = || {
            let home = variable("HOME").map(|home| Path::new(&home).join(USER));
            [Some(PathBuf::from(SYSTEM)), home].into_iter().flatten().find(|path| path.is_file())
        };
        let file = named.or_else(usual);
        let text = file.as_deref().map(file::read).transpose()?;
        let mut warnings = Vec::new();
        let mut document = match (&file, &text) {
            (Some(path), Some(text)) => file::parse(path, text, &mut warnings)?,
            _ => serde_yaml_ng::Value::Null,
        };
        environment::overlay(&mut document, variable)?;
        let config = if document.is_null() { Config::default() } else { file::of_document(document)? };
        Ok(Found { config, file, warnings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(yaml: &str, variables: &[(&str, &str)]) -> Result<Found, Invalid> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("config.yaml");
        std::fs::write(&path, yaml).unwrap();
        Config::find(Some(&path), |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_go_over_the_file_and_that_over_the_defaults() {
        let yaml = "port: 5000\nlimits:\n  max_memory_per_instance: 1GB\n  max_vcpus_per_instance: 2\n";
        let found = find(yaml, &[("LIMITS__MAX_VCPUS_PER_INSTANCE", "4"), ("JWT_SECRET", "123")]).unwrap();
        let Config { port, limits, jwt_secret, .. } = found.config;
        assert_eq!(
            (port, limits.max_memory_per_instance, limits.max_vcpus_per_instance),
            (5000, ByteSize(1 << 30), 4)
        );
        assert_eq!(jwt_secret, "123", "a text that looks like a number");
        assert_eq!(limits.max_overlay_size, Limits::default().max_overlay_size);
        assert_eq!(find("", &[]).unwrap().config, Config::default());
        let variables = [("NETWORK__DEFAULT", "a"), ("HYPEMAN_NETWORK", "none")];
        assert_eq!(find("", &variables).unwrap().config.network.default.as_deref(), Some("none"));
    }

    #[test]
    fn an_unknown_key_is_a_warning_and_a_bad_value_an_error_with_its_place() {
        let found = find("port: 1\ncaddy:\n  admin_port: 2019\n", &[]).unwrap();
        assert!(found.warnings.len() == 1 && found.warnings[0].contains("caddy"), "{:?}", found.warnings);
        for (yaml, words) in [
            ("# a comment\nport: many\n", ["config.yaml", "line 2", "port"]),
            (
                "limits:\n  max_vcpus_per_instance: -1\n",
                ["config.yaml", "line 2", "limits.max_vcpus_per_instance"],
            ),
            ("hypervisor: {default: xen}\n", ["line 1", "hypervisor.default", "xen"]),
            ("limits:\n  max_overlay_size: big\n", ["line 2", "limits.max_overlay_size", "big"]),
            ("port: 1\n port: 2\n", ["config.yaml", "line 2", ""]),
        ] {
            let error = find(yaml, &[]).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{yaml}: {error}");
        }
        let error = find("", &[("PORT", "many")]).unwrap_err().to_string();
        assert!(error.contains("PORT") && error.contains("many"), "{error}");
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there() {
        let missing = Config::find(Some(Path::new("/no/such.yaml")), |_| None).unwrap_err().to_string();
        assert!(missing.contains("/no/such.yaml"), "{missing}");
        let by_variable = |name: &str| (name == PATH).then(|| "/no/other.yaml".to_owned());
        let missing = Config::find(None, by_variable).unwrap_err().to_string();
        assert!(missing.contains("/no/other.yaml"), "{missing}");
        assert_eq!(Config::find(None, |_| None).unwrap().config.port, 4973);
    }
}
