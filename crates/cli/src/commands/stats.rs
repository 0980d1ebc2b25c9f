//! stats: what instances use of the host.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use anyhow::Result;
use hypeman_instance::instance::Instance;
use hypeman_network::Traffic;
use hypeman_record::network::Attached;
use hypeman_record::run::Run;
use hypeman_record::{format, names};
use procfs::process::Process;
use serde::Serialize;

use super::adopt::observe;
use crate::args::Format;
use crate::context::Context;
use crate::output;
use crate::size::show;

/// Between two looks, from which the use of the CPU is told.
const BETWEEN: Duration = Duration::from_millis(500);

/// What a terminal takes for an order to be empty (ECMA-48, ED and CUP).
const EMPTY: &str = "\x1b[H\x1b[2J";

/// What an instance uses; names as upstream has them, where it has them.
#[derive(Debug, Serialize)]
struct Row {
    instance_id: String,
    instance_name: String,
    /// Of one CPU.
    cpu_percent: f64,
    /// By the VMM, since it was started.
    cpu_seconds: f64,
    memory_rss_bytes: u64,
    memory_vms_bytes: u64,
    allocated_memory_bytes: u64,
    allocated_vcpus: u32,
    /// From and to the host's disks.
    disk_read_bytes: Option<u64>,
    disk_write_bytes: Option<u64>,
    /// What its disks take.
    disk_used_bytes: u64,
    /// To the guest, and from it; only a bridge counts.
    network_rx_bytes: Option<u64>,
    network_tx_bytes: Option<u64>,
}

/// Shows it once, or to a terminal again and again.
pub(crate) fn stats(context: &Context, names: &[String], no_stream: bool, format: Format) -> Result<()> {
    let streams = !no_stream && format == Format::Table && std::io::stdout().is_terminal();
    let mut before = looks(context, names)?;
    loop {
        std::thread::sleep(BETWEEN);
        let now = looks(context, names)?;
        let rows = rows(&before, &now)?;
        if streams {
            print!("{EMPTY}");
        }
        show_rows(format, &rows)?;
        if !streams {
            return Ok(());
        }
        before = now;
    }
}

fn show_rows(format: Format, rows: &[Row]) -> Result<()> {
    let header = ["ID", "NAME", "CPU", "MEM / LIMIT", "DISK I/O", "DISK", "NET I/O"];
    let pair = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => format!("{} / {}", show(one), show(other)),
        _ => "-".to_owned(),
    };
    output::list(format, &header, rows, |row| {
        vec![
            row.instance_id.chars().take(12).collect(),
            row.instance_name.clone(),
            format!("{:.1}%", row.cpu_percent),
            pair(Some(row.memory_rss_bytes), Some(row.allocated_memory_bytes)),
            pair(row.disk_read_bytes, row.disk_write_bytes),
            show(row.disk_used_bytes),
            pair(row.network_rx_bytes, row.network_tx_bytes),
        ]
    })
}

/// A look at the VMM of an instance.
struct Look {
    instance: Instance,
    at: Instant,
    cpu: f64,
    rss: u64,
    virtual_size: u64,
    moved: Option<(u64, u64)>,
}

/// Looks at those that are named, or at all that run.
fn looks(context: &Context, names: &[String]) -> Result<Vec<Look>> {
    if names.is_empty() {
        let (instances, _) = context.instances.list()?;
        return Ok(instances.into_iter().filter_map(look).collect());
    }
    let look = |name: &String| {
        let instance = context.instances.find(name)?;
        let seen = observe(&instance)?;
        let refused = instance.refused(seen.state, hypeman_instance::Needs::Running);
        look(instance).ok_or_else(|| refused.into())
    };
    names.iter().map(look).collect()
}

/// `None` when it does not run.
fn look(instance: Instance) -> Option<Look> {
    let run: Run = format::read(&instance.directory.join(names::RUN)).ok()??;
    if run.end.is_some() || !run.vmm.is_alive() {
        return None;
    }
    let process = Process::new(i32::try_from(run.vmm.pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    Some(Look {
        instance,
        at: Instant::now(),
        cpu: (stat.utime + stat.stime) as f64 / ticks,
        rss: stat.rss * procfs::page_size(),
        virtual_size: stat.vsize,
        // Of another user's process only root is told.
        moved: process.io().ok().map(|io| (io.read_bytes, io.write_bytes)),
    })
}

fn rows(before: &[Look], now: &[Look]) -> Result<Vec<Row>> {
    let before: HashMap<&str, &Look> =
        before.iter().map(|look| (look.instance.record.id.as_str(), look)).collect();
    let attached: Vec<Option<Attached>> = now
        .iter()
        .map(|look| format::read(&look.instance.directory.join(names::ATTACHED)).ok().flatten())
        .collect();
    let taps: Vec<String> = attached.iter().flatten().map(|attached| attached.port.tap.clone()).collect();
    let traffic = if taps.is_empty() { Vec::new() } else { hypeman_network::traffic(&taps)? };
    let mut counted = taps.iter().zip(traffic);
    let row = |(look, attached): (&Look, &Option<Attached>)| {
        let traffic = attached.as_ref().and_then(|_| counted.next()?.1);
        row(before.get(look.instance.record.id.as_str()).copied(), look, traffic)
    };
    Ok(now.iter().zip(&attached).map(row).collect())
}

fn row(before: Option<&Look>, look: &Look, traffic: Option<Traffic>) -> Row {
    let record = &look.instance.record;
    let used = before.map_or(0.0, |before| {
        (look.cpu - before.cpu).max(0.0) / look.at.duration_since(before.at).as_secs_f64().max(1e-3)
    });
    Row {
        instance_id: record.id.clone(),
        instance_name: record.name.clone(),
        cpu_percent: used * 100.0,
        cpu_seconds: look.cpu,
        memory_rss_bytes: look.rss,
        memory_vms_bytes: look.virtual_size,
        allocated_memory_bytes: record.settings.memory + record.settings.hotplug_memory.unwrap_or(0),
        allocated_vcpus: record.settings.vcpus,
        disk_read_bytes: look.moved.map(|(read, _)| read),
        disk_write_bytes: look.moved.map(|(_, written)| written),
        disk_used_bytes: disk_used(&look.instance),
        network_rx_bytes: traffic.map(|traffic| traffic.inbound),
        network_tx_bytes: traffic.map(|traffic| traffic.outbound),
    }
}

/// What its own disks take, of which holes take nothing.
fn disk_used(instance: &Instance) -> u64 {
    const BLOCK: u64 = 512; // of st_blocks (stat(3type))
    let files = std::fs::read_dir(instance.directory.join(names::DISKS)).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * BLOCK).sum()
}
