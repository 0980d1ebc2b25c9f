//! The server and its host: health, capabilities, resources.

use axum::Json;
use hypeman_host::resources::Resources as Found;
use hypeman_host::runtimes::Runtime;
use hypeman_record::network::DEFAULT;
use hypeman_wire::Error;
use hypeman_wire::instance::Hypervisor;
use hypeman_wire::system::{
    Capabilities, CapabilitiesDefaultRuntime, CapabilitiesHost, CapabilitiesImages, CapabilitiesNetwork,
    CapabilitiesRuntime, CapabilitiesServer, DiskBreakdown, Health, NetworkModel, Ok as Fine,
    ResourceAllocation, ResourceStatus, Resources,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::API_VERSION;
use crate::app::App;
use crate::call::Call;
use crate::refusal::Answer;
use crate::shown::{self, PLATFORM};

/// Features of the API that exist here.
const FEATURES: [&str; 4] = ["instances", "images", "exec", "logs"];

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(capabilities)).routes(routes!(resources))
}

/// Tells that the server answers.
#[utoipa::path(
    get, path = "/health", tag = "System", operation_id = "getHealth", security(()),
    responses((status = 200, body = Health)),
)]
async fn health() -> Json<Health> {
    Json(Health { status: Fine::Ok })
}

/// Tells what the server and its host can do.
#[utoipa::path(
    get, path = "/capabilities", tag = "System", operation_id = "getCapabilities",
    security(("bearerAuth" = ["resource:read"])),
    responses((status = 200, body = Capabilities), (status = "default", body = Error)),
)]
async fn capabilities(call: Call) -> Answer<Json<Capabilities>> {
    let default = call.app.config().hypervisor.default;
    let found = call.app.run(move |host| {
        let network = host.network(DEFAULT).ok().map(|view| view.network);
        let gateway = network.as_ref().map(|network| network.gateway().to_string());
        let network = CapabilitiesNetwork {
            model: if host.can_bridge() { NetworkModel::Bridge } else { NetworkModel::Nat },
            gateway,
            subnet: network.as_ref().map(|network| network.subnet.to_string()),
            guest_to_guest: network.is_some_and(|network| !network.isolated),
        };
        Ok::<_, hypeman_host::Error>(of_found(host.runtimes(), default, network))
    });
    found.await.map(Json)
}

fn of_found(runtimes: Vec<Runtime>, default: Hypervisor, network: CapabilitiesNetwork) -> Capabilities {
    let is_default = |runtime: &&Runtime| shown::hypervisor(runtime.hypervisor) == default;
    let available = runtimes.iter().find(is_default).is_some_and(|runtime| runtime.is_installed);
    Capabilities {
        server: CapabilitiesServer {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: API_VERSION.to_owned(),
        },
        host: CapabilitiesHost { os: std::env::consts::OS.to_owned(), arch: "amd64".to_owned() },
        default_runtime: CapabilitiesDefaultRuntime { name: shown::word(default), available },
        runtimes: runtimes.into_iter().map(runtime).collect(),
        network,
        images: CapabilitiesImages {
            platforms: vec![PLATFORM.to_owned()],
            default_platform: PLATFORM.to_owned(),
        },
        features: FEATURES.map(str::to_owned).to_vec(),
    }
}

fn runtime(runtime: Runtime) -> CapabilitiesRuntime {
    let optional = [(runtime.adds_memory, "hotplug-memory"), (runtime.has_vsock, "vsock")];
    let optional = optional.into_iter().filter_map(|(has_it, feature)| has_it.then_some(feature));
    let all = ["snapshots", "standby", "fork", "pause", "disk-io-limit"].into_iter().chain(optional);
    CapabilitiesRuntime {
        name: shown::word(shown::hypervisor(runtime.hypervisor)),
        available: runtime.is_installed,
        features: all.map(str::to_owned).collect(),
    }
}

/// Tells the resources of the host, and which instances have them.
#[utoipa::path(
    get, path = "/resources", tag = "System", operation_id = "getResources",
    security(("bearerAuth" = ["resource:read"])),
    responses((status = 200, body = Resources), (status = "default", body = Error)),
)]
async fn resources(call: Call) -> Answer<Json<Resources>> {
    let found = call.app.run(|host| host.resources()).await?;
    Ok(Json(allocated(&found)))
}

fn allocated(found: &Found) -> Resources {
    let running = found.instances.iter().filter(|(_, is_active)| *is_active).map(|(instance, _)| instance);
    let allocations: Vec<ResourceAllocation> = running
        .map(|instance| {
            let settings = &instance.record.settings;
            ResourceAllocation {
                instance_id: instance.record.id.clone(),
                instance_name: instance.record.name.clone(),
                cpu: settings.vcpus,
                memory_bytes: settings.max_memory(),
                disk_bytes: instance.record.overlay_size(),
                disk_io_bps: settings.max_disk_rate().unwrap_or(0),
                network_download_bps: settings.network.rates.inbound.unwrap_or(0),
                network_upload_bps: settings.network.rates.outbound.unwrap_or(0),
            }
        })
        .collect();
    let sum =
        |part: fn(&ResourceAllocation) -> u64| allocations.iter().map(part).fold(0, u64::saturating_add);
    Resources {
        cpu: status("cpu", found.processors, sum(|one| u64::from(one.cpu))),
        memory: status("memory", found.memory, sum(|one| one.memory_bytes)),
        disk: status("disk", found.disk, sum(|one| one.disk_bytes)),
        network: status("network", 0, sum(|one| one.network_download_bps)),
        disk_breakdown: DiskBreakdown { images_bytes: found.images, overlays_bytes: found.overlays },
        allocations,
    }
}

/// A resource that is not promised more than once: nothing is refused, but the rest is told.
fn status(kind: &str, capacity: u64, allocated: u64) -> ResourceStatus {
    ResourceStatus {
        kind: kind.to_owned(),
        capacity,
        effective_limit: capacity,
        allocated,
        available: capacity.saturating_sub(allocated),
        oversub_ratio: 1.0,
        source: "detected".to_owned(),
    }
}
