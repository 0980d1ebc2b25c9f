//! The server and its host, as the API describes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer to a health check of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: Ok,
}

/// The only status of a server that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = HealthStatus)]
pub enum Ok {
    /// It answers.
    Ok,
}

/// Abilities of the server on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// The server.
    pub server: CapabilitiesServer,
    /// Its host.
    pub host: CapabilitiesHost,
    /// Hypervisor of instances that name none.
    pub default_runtime: CapabilitiesDefaultRuntime,
    /// Hypervisors, by name.
    pub runtimes: Vec<CapabilitiesRuntime>,
    /// Network of instances.
    pub network: CapabilitiesNetwork,
    /// Images that can run.
    pub images: CapabilitiesImages,
    /// Features of the API.
    pub features: Vec<String>,
}

/// Release of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesServer {
    /// Version of the program.
    pub version: String,
    /// Version of the API.
    pub api_version: String,
}

/// Host of the server, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesHost {
    /// Operating system, `linux`.
    pub os: String,
    /// Architecture, `amd64`.
    pub arch: String,
}

/// Hypervisor of instances that name none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesDefaultRuntime {
    /// Its name.
    pub name: String,
    /// Whether its program is installed.
    pub available: bool,
}

/// A hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesRuntime {
    /// Its name.
    pub name: String,
    /// Whether its program is installed.
    pub available: bool,
    /// Its features.
    pub features: Vec<String>,
}

/// Network of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesNetwork {
    /// Kind of the network.
    pub model: NetworkModel,
    /// Address of the host on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub gateway: Option<String>,
    /// Its addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subnet: Option<String>,
    /// Whether its VMs can reach each other.
    pub guest_to_guest: bool,
}

/// Kind of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkModel {
    /// A bridge of the host's.
    Bridge,
    /// A process of the user's (passt).
    Nat,
}

/// Images that can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesImages {
    /// Platforms.
    pub platforms: Vec<String>,
    /// Platform of an image of which none is named.
    pub default_platform: String,
}

/// Resources of the host, and who has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// vCPUs.
    pub cpu: ResourceStatus,
    /// Memory in bytes.
    pub memory: ResourceStatus,
    /// Disk in bytes.
    pub disk: ResourceStatus,
    /// Network in bytes a second; 0 where the host does not tell.
    pub network: ResourceStatus,
    /// Use of the disk, by kind.
    pub disk_breakdown: DiskBreakdown,
    /// Resources of each instance that runs.
    pub allocations: Vec<ResourceAllocation>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceStatus {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Size that the host has.
    pub capacity: u64,
    /// Size that instances may have in all; not enforced.
    pub effective_limit: u64,
    /// Size that running instances have.
    pub allocated: u64,
    /// Rest of the limit.
    pub available: u64,
    /// Limit by capacity.
    pub oversub_ratio: f64,
    /// Where the capacity is from: always `detected`.
    pub source: String,
}

/// Use of the disk, by kind, in bytes without holes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskBreakdown {
    /// Images.
    pub images_bytes: u64,
    /// Writable disks of instances.
    pub overlays_bytes: u64,
}

/// Resources of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceAllocation {
    /// Its id.
    pub instance_id: String,
    /// Its name.
    pub instance_name: String,
    /// Number of vCPUs.
    pub cpu: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of its writable disk in bytes.
    pub disk_bytes: u64,
    /// Maximum rate of each disk in bytes a second; 0 for no limit.
    pub disk_io_bps: u64,
    /// Maximum rate to the guest in bytes a second; 0 for no limit.
    pub network_download_bps: u64,
    /// Maximum rate from the guest in bytes a second; 0 for no limit.
    pub network_upload_bps: u64,
}
