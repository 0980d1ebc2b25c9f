//! Resources of the host that instances use.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use hypeman_network::Traffic;
use hypeman_record::network::Attached;
use hypeman_record::run::Run;
use hypeman_record::{format, names};
use serde::Serialize;

use crate::error::{Needs, Result};
use crate::host::Host;
use crate::instance::Instance;
use crate::resources::disks;

/// Resources that an instance uses; names are upstream's where it has them.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// Its id.
    pub instance_id: String,
    /// Its name.
    pub instance_name: String,
    /// Use of CPUs between two samples, in percent of one.
    pub cpu_percent: f64,
    /// CPU time of its VMM since that was started, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory of its VMM in bytes.
    pub memory_rss_bytes: u64,
    /// Address space of its VMM in bytes.
    pub memory_vms_bytes: u64,
    /// Maximum memory of its guest in bytes.
    pub allocated_memory_bytes: u64,
    /// Its vCPUs.
    pub allocated_vcpus: u32,
    /// Read from the host's disks; of another user's process only root is told.
    pub disk_read_bytes: Option<u64>,
    /// Written to the host's disks; likewise.
    pub disk_write_bytes: Option<u64>,
    /// Size of its disks in bytes, without holes.
    pub disk_used_bytes: u64,
    /// Sent to the guest; only a bridge counts.
    pub network_rx_bytes: Option<u64>,
    /// Sent by the guest; likewise.
    pub network_tx_bytes: Option<u64>,
}

/// A sample of what the VMM of an instance uses.
#[derive(Debug)]
pub struct Sample {
    instance: Instance,
    at: Instant,
    cpu: f64,
    rss: u64,
    virtual_size: u64,
    moved: Option<(u64, u64)>,
}

impl Host {
    /// Samples the named instances, or all that run.
    ///
    /// # Errors
    /// When one that was named is not there, or does not run.
    pub fn sample(&self, names: &[String]) -> Result<Vec<Sample>> {
        if names.is_empty() {
            return Ok(sample_all(self.list()?.0));
        }
        let sample = |name: &String| {
            let instance = self.find(name)?;
            let seen = self.observe(&instance)?;
            let refused = instance.refused(seen.state, Needs::Running);
            sample(instance).ok_or(refused)
        };
        names.iter().map(sample).collect()
    }
}

/// Samples those of some instances that run.
#[must_use]
pub fn sample_all(instances: Vec<Instance>) -> Vec<Sample> {
    instances.into_iter().filter_map(sample).collect()
}

/// `None` when it does not run.
fn sample(instance: Instance) -> Option<Sample> {
    let run: Run = format::read(&instance.directory.join(names::RUN)).ok()??;
    if run.end.is_some() || !run.vmm.is_alive() {
        return None;
    }
    let process = Path::new("/proc").join(run.vmm.pid.to_string());
    // In pages: the address space, and what is resident (proc_pid_statm(5)).
    let pages = std::fs::read_to_string(process.join("statm")).ok()?;
    let mut pages = pages.split_ascii_whitespace().map_while(|pages| pages.parse::<u64>().ok());
    let page = rustix::param::page_size() as u64;
    Some(Sample {
        instance,
        at: Instant::now(),
        cpu: run.vmm.cpu_ticks() as f64 / rustix::param::clock_ticks_per_second() as f64,
        virtual_size: pages.next()? * page,
        rss: pages.next()? * page,
        moved: moved(&process),
    })
}

/// Returns the bytes that a process has read from disks, and written to them (proc_pid_io(5)).
fn moved(process: &Path) -> Option<(u64, u64)> {
    let io = std::fs::read_to_string(process.join("io")).ok()?;
    let count = |name| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((count("read_bytes:")?, count("write_bytes:")?))
}

/// Returns the usage of instances sampled `now`; with `before` also rates.
///
/// # Errors
/// When the traffic of networks cannot be counted.
pub fn usage(before: &[Sample], now: &[Sample]) -> Result<Vec<Usage>> {
    let before: HashMap<&str, &Sample> =
        before.iter().map(|sample| (sample.instance.record.id.as_str(), sample)).collect();
    let attached: Vec<Option<Attached>> = now
        .iter()
        .map(|sample| format::read(&sample.instance.directory.join(names::ATTACHED)).ok().flatten())
        .collect();
    let taps: Vec<String> = attached.iter().flatten().map(|attached| attached.port.tap.clone()).collect();
    let traffic = if taps.is_empty() { Vec::new() } else { hypeman_network::traffic(&taps)? };
    let mut counted = taps.iter().zip(traffic);
    let one = |(sample, attached): (&Sample, &Option<Attached>)| {
        let traffic = attached.as_ref().and_then(|_| counted.next()?.1);
        of_one(before.get(sample.instance.record.id.as_str()).copied(), sample, traffic)
    };
    Ok(now.iter().zip(&attached).map(one).collect())
}

fn of_one(before: Option<&Sample>, now: &Sample, traffic: Option<Traffic>) -> Usage {
    let record = &now.instance.record;
    let used = before.map_or(0.0, |before| {
        (now.cpu - before.cpu).max(0.0) / now.at.duration_since(before.at).as_secs_f64().max(1e-3)
    });
    Usage {
        instance_id: record.id.clone(),
        instance_name: record.name.clone(),
        cpu_percent: used * 100.0,
        cpu_seconds: now.cpu,
        memory_rss_bytes: now.rss,
        memory_vms_bytes: now.virtual_size,
        allocated_memory_bytes: record.settings.max_memory(),
        allocated_vcpus: record.settings.vcpus,
        disk_read_bytes: now.moved.map(|(read, _)| read),
        disk_write_bytes: now.moved.map(|(_, written)| written),
        disk_used_bytes: disks(&now.instance),
        network_rx_bytes: traffic.map(|traffic| traffic.inbound),
        network_tx_bytes: traffic.map(|traffic| traffic.outbound),
    }
}
