//! Instances, as the API describes them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Name, Tags};

/// State of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum InstanceState {
    /// It was never started.
    Created,
    /// The VM runs; its program does not yet.
    Initializing,
    /// The program runs.
    Running,
    /// The vCPUs are stopped.
    Paused,
    /// The VMM runs without a running VM.
    Shutdown,
    /// There is no VMM, and no memory to go on from.
    Stopped,
    /// There is no VMM, and a memory to go on from.
    Standby,
    /// The state cannot be found out; `state_error` says why.
    Unknown,
}

/// Hypervisor of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hypervisor {
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// Firecracker; not supported yet.
    Firecracker,
    /// QEMU's q35 machine.
    Qemu,
    /// QEMU's microvm machine.
    QemuMicrovm,
    /// Apple's; upstream's on macOS, not supported.
    Vz,
}

/// State of an instance that is made of another, or restored from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TargetState {
    /// It has the disks only.
    Stopped,
    /// It has a memory to go on from.
    Standby,
    /// It runs.
    Running,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Id: 24 hexadecimal digits.
    pub id: String,
    /// Name, unique on this host.
    pub name: String,
    /// Image, as the client named it; empty when only a kernel is booted.
    pub image: String,
    /// Platform of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub platform: Option<String>,
    /// State now.
    pub state: InstanceState,
    /// Reason why the state is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
    /// Memory, as `1.0 GB`.
    pub size: String,
    /// Memory that can be added while it runs.
    pub hotplug_size: String,
    /// Size of the writable disk.
    pub overlay_size: String,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Maximum rate of each disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub disk_io_bps: Option<String>,
    /// Environment of the program, with the image's own variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// Network.
    pub network: InstanceNetwork,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it is removed; always null, for nothing expires yet.
    #[schema(required = true)]
    pub expires_at: Option<Timestamp>,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// When it ended last.
    pub stopped_at: Option<Timestamp>,
    /// Exit code of the last run, if it has ended.
    pub exit_code: Option<i32>,
    /// How the last run ended, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub exit_message: Option<String>,
    /// Whether it has a memory to go on from.
    pub has_snapshot: bool,
    /// Hypervisor.
    pub hypervisor: Hypervisor,
    /// Result of its health check, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub health_status: Option<HealthStatus>,
}

/// Network of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = InstanceNetwork)]
pub struct InstanceNetwork {
    /// Whether it is connected.
    pub enabled: bool,
    /// Name of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Maximum rate to the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bandwidth_download: Option<String>,
    /// Maximum rate from the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bandwidth_upload: Option<String>,
}

/// Result of health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = InstanceHealthStatus)]
pub struct HealthStatus {
    /// Summary.
    pub status: Health,
    /// Number of consecutive successes.
    pub consecutive_successes: u32,
    /// Number of consecutive failures.
    pub consecutive_failures: u32,
    /// When the last check ended.
    pub last_checked_at: Option<Timestamp>,
    /// Output of the last check, if it failed.
    pub last_error: Option<String>,
}

/// Health of an instance's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check has succeeded yet.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many checks failed.
    Unhealthy,
}

/// Resources that an instance uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceStats {
    /// Its id.
    pub instance_id: String,
    /// Its name.
    pub instance_name: String,
    /// CPU time of its VMM since that was started, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory of its VMM in bytes.
    pub memory_rss_bytes: u64,
    /// Address space of its VMM in bytes.
    pub memory_vms_bytes: u64,
    /// Bytes sent to the guest.
    pub network_rx_bytes: u64,
    /// Bytes sent by the guest.
    pub network_tx_bytes: u64,
    /// Number of vCPUs.
    pub allocated_vcpus: u32,
    /// Maximum memory of the guest in bytes.
    pub allocated_memory_bytes: u64,
    /// Resident memory by maximum memory.
    pub memory_utilization_ratio: Option<f64>,
}

/// Answer to a wait for a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitForStateResponse {
    /// State when the wait ended.
    pub state: InstanceState,
    /// Reason why the state is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
    /// Whether the timeout ended the wait.
    pub timed_out: bool,
}

/// Options of a start; each that is left out stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartInstanceRequest {
    /// Replacement of the entrypoint, from now on.
    pub entrypoint: Option<Vec<String>>,
    /// Replacement of the command, from now on.
    pub cmd: Option<Vec<String>>,
}

/// Options of a fork of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkInstanceRequest {
    /// Name of the fork.
    pub name: Name,
    /// Whether the source may be running.
    #[serde(default)]
    pub from_running: bool,
    /// State of the fork; that of its source when left out.
    pub target_state: Option<TargetState>,
    /// Tags of the fork; none when left out.
    #[serde(default)]
    pub tags: Tags,
}
