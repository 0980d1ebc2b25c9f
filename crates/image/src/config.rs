//! Configuration of an image: how to run it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Result, content};
use crate::platform;

/// How to run an image, from its OCI configuration
/// (<https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, which the user's replace; the program when there is no entrypoint.
    pub cmd: Vec<String>,
    /// NAME=VALUE.
    pub env: Vec<String>,
    /// Absolute, or empty.
    pub working_dir: String,
    /// `user[:group]`, or empty.
    pub user: String,
    /// Name or number of the signal that asks the program to end.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports at which the program listens, as `80/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<String>,
    /// How it is found out how the program is; images of releases before there was such have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// The HEALTHCHECK of an image (docker's addition to the configuration,
/// <https://github.com/moby/docker-image-spec/blob/v1.3.1/specs-go/v1/image.go>). Times are in
/// nanoseconds, and 0 is the usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `NONE`, or `CMD` and arguments, or `CMD-SHELL` and a line for the shell.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: u64,
    /// For one.
    pub timeout: u64,
    /// After the start, when failures do not count.
    pub start_period: u64,
    /// Between two checks in that time.
    pub start_interval: u64,
    /// So many failures make it unhealthy.
    pub retries: u32,
}

/// Configuration for an image made from a root filesystem, as by `docker import --change`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The command, split as a shell does; `/bin/sh` when absent.
    pub cmd: Option<String>,
}

impl Changes {
    pub(crate) fn config(&self) -> Result<Config> {
        let text = self.cmd.as_deref().unwrap_or("/bin/sh");
        let cmd = shlex::split(text).filter(|words| !words.is_empty());
        let cmd =
            cmd.ok_or_else(|| content(format!("the command {text:?}"), "it is empty, or a quote is open"))?;
        Ok(Config { cmd, ..Config::default() })
    }
}

/// The document that an image's manifest names as its configuration; only what we use of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    pub(crate) architecture: Option<String>,
    pub(crate) os: Option<String>,
    config: Option<RunConfig>,
    pub(crate) rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    /// Digests of the uncompressed layers.
    pub(crate) diff_ids: Vec<String>,
}

/// Every field may be null: docker writes some so.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    healthcheck: Option<Health>,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Document> {
        serde_json::from_slice(bytes).map_err(|error| content("the image's configuration", error))
    }

    /// Refuses an image that no VM of ours could run.
    pub(crate) fn check_platform(&self) -> Result<()> {
        let or = |field: &Option<String>, usual: &str| {
            field.clone().filter(|value| !value.is_empty()).unwrap_or_else(|| usual.to_owned())
        };
        let (os, architecture) = (or(&self.os, "linux"), or(&self.architecture, "amd64"));
        if platform::rank(&os, &architecture, None).is_some() {
            return Ok(());
        }
        let platform =
            [&self.os, &self.architecture].map(|field| field.clone().unwrap_or_default()).join("/");
        Err(content("the image", format!("it is made for {platform}, and VMs here are linux/amd64")))
    }

    pub(crate) fn run_config(self) -> Config {
        let Some(config) = self.config else {
            return Config::default();
        };
        Config {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            labels: config.labels.unwrap_or_default(),
            exposed: config.exposed_ports.unwrap_or_default().into_keys().collect(),
            health: config.healthcheck,
        }
    }
}
