//! Metrics that are read off the host when somebody asks for them, by upstream's names where it has
//! them. All but the counters are sums: of those the library forgets VMs that are gone, of gauges
//! it does not.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::app::App;
use crate::sample::{Sample, Sampler, Vm};

/// Labels of VMs beyond the budget.
const OTHER: &str = "other";

/// Registers all that is read off the host.
pub(crate) fn register(meter: &Meter, app: &App) {
    let host = Observed {
        meter,
        sampler: Arc::new(Sampler::new(app.clone())),
        budget: app.config().metrics.vm_label_budget,
    };
    host.gauge("instances_total", "Instances by state", |sample| {
        let labels = |(state, hypervisor): &(String, String)| {
            vec![KeyValue::new("state", state.clone()), KeyValue::new("hypervisor", hypervisor.clone())]
        };
        sample.states.iter().map(|(state, count)| (*count, labels(state))).collect()
    });
    host.gauge("images_total", "Images by status", |sample| {
        let labels = |status: &String| vec![KeyValue::new("status", status.clone())];
        sample.images.iter().map(|(status, count)| (*count, labels(status))).collect()
    });
    let help = "Pulls that wait for others";
    host.gauge("images_build_queue_length", help, |sample| vec![(sample.waiting, Vec::new())]);
    usage(&host);
    consoles(&host);
}

/// Registers what each VM uses.
fn usage(host: &Observed<'_>) {
    host.seconds_of_vms("vm_cpu", "CPU time of a VM's process", |vm| vm.usage.cpu_seconds);
    let bytes = |name, help, value| host.bytes_of_vms(name, help, value);
    bytes("vm_memory_rss", "Resident memory of a VM's process", |vm| vm.usage.memory_rss_bytes);
    bytes("vm_allocated_memory", "Largest memory of a VM", |vm| vm.usage.allocated_memory_bytes);
    bytes("vm_disk_used", "Size of a VM's disks without holes", |vm| vm.usage.disk_used_bytes);
    bytes("vm_network_rx", "Bytes sent to a VM", |vm| vm.usage.network_rx_bytes.unwrap_or(0));
    bytes("vm_network_tx", "Bytes sent by a VM", |vm| vm.usage.network_tx_bytes.unwrap_or(0));
}

/// Registers what has happened to each VM's console.
fn consoles(host: &Observed<'_>) {
    let captured = "Bytes that were ever written to a console's log";
    host.count_of_vms("console_captured", "By", captured, |vm| vm.console.captured);
    let lost = "Bytes of a console that were lost, each told in its log";
    host.count_of_vms("console_lost", "By", lost, |vm| vm.console.events.map(|events| events.lost));
    let rotations = "Rotations of a console's log";
    host.count_of_vms("console_rotations", "", rotations, |vm| {
        vm.console.events.map(|events| events.rotations)
    });
    let stalls = "Times at which a console's log could not be written, or the disk was too slow";
    host.count_of_vms("console_stalls", "", stalls, |vm| vm.console.events.map(|events| events.stalls));
    let adoptions = "Shims that have taken a VM over in its run";
    host.count_of_vms("console_adoptions", "", adoptions, |vm| Some(vm.console.adoptions));
}

/// A host as metrics see it.
struct Observed<'a> {
    meter: &'a Meter,
    sampler: Arc<Sampler>,
    /// Most VMs that have labels of their own.
    budget: usize,
}

impl Observed<'_> {
    fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        values: impl Fn(&Sample) -> Vec<(i64, Vec<KeyValue>)> + Send + Sync + 'static,
    ) {
        let sampler = self.sampler.clone();
        let gauge = self.meter.i64_observable_up_down_counter(name).with_description(help);
        gauge
            .with_callback(move |observer| {
                let Some(sample) = sampler.sample() else { return };
                values(&sample).iter().for_each(|(value, labels)| observer.observe(*value, labels));
            })
            .build();
    }

    fn bytes_of_vms(&self, name: &'static str, help: &'static str, value: fn(&Vm) -> u64) {
        let (sampler, budget) = (self.sampler.clone(), self.budget);
        let gauge = self.meter.i64_observable_up_down_counter(name).with_description(help).with_unit("By");
        gauge
            .with_callback(move |observer| {
                let Some(sample) = sampler.sample() else { return };
                let value = |vm: &Vm| Some(i64::try_from(value(vm)).unwrap_or(i64::MAX));
                each(&sample.vms, budget, value, |value, labels| observer.observe(value, labels));
            })
            .build();
    }

    fn seconds_of_vms(&self, name: &'static str, help: &'static str, value: fn(&Vm) -> f64) {
        let (sampler, budget) = (self.sampler.clone(), self.budget);
        let gauge = self.meter.f64_observable_up_down_counter(name).with_description(help).with_unit("s");
        gauge
            .with_callback(move |observer| {
                let Some(sample) = sampler.sample() else { return };
                each(
                    &sample.vms,
                    budget,
                    |vm| Some(value(vm)),
                    |value, labels| observer.observe(value, labels),
                );
            })
            .build();
    }

    fn count_of_vms(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        value: fn(&Vm) -> Option<u64>,
    ) {
        let (sampler, budget) = (self.sampler.clone(), self.budget);
        let counter = self.meter.u64_observable_counter(name).with_description(help).with_unit(unit);
        counter
            .with_callback(move |observer| {
                let Some(sample) = sampler.sample() else { return };
                each(&sample.vms, budget, value, |value, labels| observer.observe(value, labels));
            })
            .build();
    }
}

/// Observes a value of each VM. Those beyond the budget have no labels of their own, and are summed.
fn each<N: std::iter::Sum>(
    vms: &[Vm],
    budget: usize,
    value: impl Fn(&Vm) -> Option<N>,
    mut observe: impl FnMut(N, &[KeyValue]),
) {
    let (own, others) = vms.split_at(budget.min(vms.len()));
    for vm in own {
        if let Some(value) = value(vm) {
            observe(value, &labels(&vm.usage.instance_id, &vm.usage.instance_name));
        }
    }
    if !others.is_empty() {
        observe(others.iter().filter_map(value).sum(), &labels(OTHER, OTHER));
    }
}

fn labels(id: &str, name: &str) -> [KeyValue; 2] {
    [KeyValue::new("instance_id", id.to_owned()), KeyValue::new("instance_name", name.to_owned())]
}
