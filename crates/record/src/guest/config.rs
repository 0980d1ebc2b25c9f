//! The configuration that the host hands to init.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::guest::ulimit::Ulimit;

/// Size of the configuration disk in bytes; the JSON document must fit.
pub const DISK_SIZE: u64 = 1024 * 1024;

/// A command that does nothing, and is in every guest: `hypeman-init` itself.
pub const IDLE: [&str; 2] = ["/proc/1/exe", "idle"];

/// How init hands over to the image's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Init stays PID 1, runs the command as its child, reports how it ended and powers the VM off.
    Exec,
    /// The command is an init system itself and becomes PID 1.
    Systemd,
}

/// Input and output of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stdio {
    /// The console is its input; else that is empty.
    pub interactive: bool,
    /// The console is its terminal; else its output is a pipe to it.
    pub tty: bool,
}

/// All that init needs to know, written by the host before boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// Host name of the guest.
    pub hostname: String,
    /// Exec or systemd mode.
    pub mode: Mode,
    /// The command and its arguments (entrypoint followed by cmd); never empty.
    pub argv: Vec<String>,
    /// The whole environment of the command.
    pub env: BTreeMap<String, String>,
    /// Absolute working directory; made when it is missing, as docker does.
    pub workdir: String,
    /// `user[:group]` by name or number as in an OCI image's config; empty is root.
    pub user: String,
    /// Number of the signal that asks the command to end; `None` is SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// Resource limits of the command.
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    /// Whether the command wants to be process 1 without being a system, and gets a PID namespace
    /// to be that in.
    #[serde(default)]
    pub pid_namespace: bool,
    /// Input and output of the command.
    #[serde(default)]
    pub stdio: Stdio,
    /// Whether there is a disk with the modules of the kernel ([`crate::guest::disk::MODULES`]).
    #[serde(default)]
    pub modules: bool,
    /// How the agent and the host find each other.
    #[serde(default)]
    pub agent: AgentChannel,
    /// The machine-id, should this be a copy of another machine; 32 hexadecimal digits.
    #[serde(default)]
    pub machine_id: Option<String>,
    /// How it is found out how the command is.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// Its network, if it has one.
    #[serde(default)]
    pub network: Option<GuestNetwork>,
}

/// A command that is run from time to time, and whose exit code is 0 if all is well. Times are in
/// milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// From the end of one to the beginning of the next.
    pub interval_ms: u64,
    /// After that it has failed.
    pub timeout_ms: u64,
    /// So many in turn make it unhealthy.
    pub retries: u32,
    /// Failures so soon after the start do not count.
    pub start_period_ms: u64,
    /// In place of the interval during that time, until one has succeeded.
    pub start_interval_ms: u64,
}

/// The way between the host and the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentChannel {
    /// A virtio-serial port.
    #[default]
    Port,
    /// Connections over vsock, which the host makes.
    Vsock,
}

/// A network as a guest has it: one interface with one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// The interface's, as `02:00:00:12:34:56`.
    pub mac: String,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// How many of its first bits are the network's.
    pub prefix: u8,
    /// Where what is not on the network goes.
    pub gateway: Ipv4Addr,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// DNS servers.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked up (`search` of resolv.conf(5)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// `options` of resolv.conf(5).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Further lines of /etc/hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<(String, IpAddr)>,
}
