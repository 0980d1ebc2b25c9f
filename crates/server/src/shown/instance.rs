//! An instance, as the API describes it.

use hypeman_host::instance::Instance;
use hypeman_host::observe::Observation;
use hypeman_record::end::Reason;
use hypeman_record::guest::health::{Health, HealthStatus};
use hypeman_record::network::{Connection, Lease, NetworkSettings};
use hypeman_record::state::State;
use hypeman_wire::instance::{self as wire, InstanceNetwork, InstanceState};
use hypeman_wire::{Tags, human};
use jiff::Timestamp;

use super::{PLATFORM, hypervisor};

/// Describes an instance.
pub(crate) fn instance(instance: &Instance, seen: &Observation, lease: Option<&Lease>) -> wire::Instance {
    let record = &instance.record;
    let settings = &record.settings;
    let run = seen.run.as_ref();
    let end = seen.end.as_ref().filter(|end| end.reason != Reason::Standby);
    wire::Instance {
        id: record.id.clone(),
        name: record.name.clone(),
        image: record.image.as_ref().map(|image| image.reference.clone()).unwrap_or_default(),
        platform: record.image.as_ref().map(|_| PLATFORM.to_owned()),
        state: state(seen.state),
        state_error: state_error(seen),
        size: human::size(settings.memory),
        hotplug_size: human::size(settings.hotplug_memory.unwrap_or(0)),
        overlay_size: human::size(record.overlay_size()),
        vcpus: settings.vcpus,
        disk_io_bps: settings.max_disk_rate().map(human::rate),
        env: record.command.as_ref().map(|command| command.env.clone()).unwrap_or_default(),
        tags: Tags::from(&record.tags),
        network: network(&settings.network, lease),
        created_at: record.created,
        expires_at: None,
        started_at: run.map(|run| run.started),
        stopped_at: run.and_then(|run| run.end.as_ref()).map(|end| end.at),
        exit_code: end.map(|end| end.exit_code),
        exit_message: end.map(|end| end.message.clone()),
        has_snapshot: seen.state == State::Standby,
        hypervisor: hypervisor(settings.hypervisor),
        health_status: seen.health.as_ref().map(health),
    }
}

/// Names a state.
pub(crate) fn state(state: State) -> InstanceState {
    match state {
        State::Created => InstanceState::Created,
        State::Initializing => InstanceState::Initializing,
        State::Running => InstanceState::Running,
        State::Paused => InstanceState::Paused,
        State::Shutdown => InstanceState::Shutdown,
        State::Stopped => InstanceState::Stopped,
        State::Standby => InstanceState::Standby,
        State::Unknown => InstanceState::Unknown,
    }
}

/// Why a state is unknown, if it is.
pub(crate) fn state_error(seen: &Observation) -> Option<String> {
    seen.reason.clone().filter(|_| seen.state == State::Unknown)
}

fn network(settings: &NetworkSettings, lease: Option<&Lease>) -> InstanceNetwork {
    let name = match &settings.connection {
        Connection::None => return InstanceNetwork::default(),
        Connection::User => "user".to_owned(),
        Connection::Bridge(name) => name.clone(),
    };
    InstanceNetwork {
        enabled: true,
        name: Some(name),
        ip: lease.map(|lease| lease.address.to_string()),
        mac: lease.map(|lease| lease.mac.clone()),
        bandwidth_download: settings.rates.inbound.map(human::rate),
        bandwidth_upload: settings.rates.outbound.map(human::rate),
    }
}

fn health(health: &Health) -> wire::HealthStatus {
    let checked = health.checked_at_ms.and_then(|at| i64::try_from(at).ok());
    let is_healthy = health.status == HealthStatus::Healthy && health.failures == 0;
    let failed = health.exit_code.is_some_and(|code| code != 0);
    wire::HealthStatus {
        status: match health.status {
            HealthStatus::Starting => wire::Health::Starting,
            HealthStatus::Healthy => wire::Health::Healthy,
            HealthStatus::Unhealthy => wire::Health::Unhealthy,
        },
        consecutive_successes: u32::from(is_healthy),
        consecutive_failures: health.failures,
        last_checked_at: checked.and_then(|at| Timestamp::from_millisecond(at).ok()),
        last_error: failed.then(|| health.output.clone()),
    }
}
