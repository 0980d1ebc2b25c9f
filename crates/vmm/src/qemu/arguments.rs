//! QEMU's command line.

use hypeman_record::descriptors;
use hypeman_record::spec::{Accelerator, Backend, Disk, Nic, RateLimit, VmSpec};

use super::Machine;
use crate::hypervisor::Origin;

/// The arguments for a VM that starts stopped (`-S`).
pub(crate) fn of(machine: Machine, spec: &VmSpec, origin: Origin<'_>) -> Vec<String> {
    let mut arguments = Arguments::default();
    arguments.flags(&["-S", "-nodefaults", "-no-user-config"]);
    arguments.pair("-display", "none");
    // QEMU's own list of system calls, on top of ours.
    arguments.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    arguments.pair("-name", format!("guest={}", escaped(&spec.name)));
    arguments.pair("-machine", machine_name(machine));
    arguments.pair("-accel", accelerator(spec.accelerator));
    arguments.pair("-cpu", cpu(&spec.cpu_left_out));
    arguments.pair("-smp", spec.vcpus.to_string());
    arguments.pair("-m", format!("size={}B", spec.memory));
    arguments.pair("-kernel", spec.kernel.display().to_string());
    if let Some(initramfs) = &spec.initramfs {
        arguments.pair("-initrd", initramfs.display().to_string());
    }
    arguments.pair("-append", spec.cmdline.clone());
    // A guest that resets or powers off ends QEMU, whose SHUTDOWN event tells which of the two it
    // was. A kernel that panics says so (pvpanic), and then goes on to print why, and resets.
    arguments.pair("-action", "reboot=shutdown,shutdown=poweroff,panic=none");
    arguments.pair("-device", pvpanic(machine));
    arguments.pair("-chardev", format!("socket,id=qmp,fd={},server=on,wait=off", descriptors::API));
    arguments.pair("-mon", "chardev=qmp,mode=control");
    arguments.pair("-chardev", "pipe,id=console,path=console");
    arguments.pair("-serial", "chardev:console");
    // Tells a guest that it was restored, so that no two that come of one snapshot have the same
    // random numbers (docs/specs/vmgenid.rst). It needs ACPI.
    if machine == Machine::Q35 {
        arguments.pair("-device", "vmgenid,guid=auto");
    }
    // For the guest's random numbers at boot, which has no other source under TCG.
    arguments.pair("-device", format!("virtio-rng-{}", bus(machine)));
    for (index, disk) in spec.disks.iter().enumerate() {
        arguments.disk(machine, index, disk);
    }
    if let Some(nic) = &spec.nic {
        arguments.nic(machine, nic);
    }
    if let Origin::Restore(_) = origin {
        arguments.pair("-incoming", "defer");
    }
    if let Some(port) = &spec.control_port {
        arguments
            .pair("-chardev", format!("socket,id=control,fd={},server=on,wait=off", descriptors::SECOND));
        arguments.pair("-device", format!("virtio-serial-{}", bus(machine)));
        arguments.pair("-device", format!("virtserialport,chardev=control,name={}", escaped(port)));
    }
    arguments.0
}

/// The value of `-cpu`. On KVM `max` is the host's CPU, on TCG all that TCG can do
/// (docs/system/cpu-models-x86.rst.inc).
pub(crate) fn cpu(left_out: &[String]) -> String {
    left_out.iter().fold("max".to_owned(), |cpu, feature| format!("{cpu},-{feature}"))
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(ToString::to_string));
    }

    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }

    fn disk(&mut self, machine: Machine, index: usize, disk: &Disk) {
        let path = escaped(&disk.path.display().to_string());
        let read_only = if disk.read_only { "on" } else { "off" };
        // discard=unmap lets the guest's fstrim make the sparse file small again.
        let limits = disk.rate_limit.map(throttling).unwrap_or_default();
        let drive = format!(
            "if=none,id=disk{index},format=raw,file={path},readonly={read_only},discard=unmap{limits}"
        );
        self.pair("-drive", drive);
        let serial = escaped(&disk.serial);
        self.pair("-device", format!("virtio-blk-{},drive=disk{index},serial={serial}", bus(machine)));
    }

    fn nic(&mut self, machine: Machine, nic: &Nic) {
        let backend = match nic.backend {
            // vhost would need /dev/vhost-net, which a confined QEMU has not.
            Backend::Tap => format!("tap,id=net0,fd={},vhost=off", descriptors::NETWORK),
            Backend::Stream => {
                format!("stream,id=net0,server=off,addr.type=fd,addr.str={}", descriptors::NETWORK)
            }
        };
        self.pair("-netdev", backend);
        // Without the ROM by which a BIOS could boot from the network.
        let rom = if machine == Machine::Q35 { ",romfile=" } else { "" };
        let mac = escaped(&nic.mac);
        self.pair("-device", format!("virtio-net-{},netdev=net0,mac={mac}{rom}", bus(machine)));
    }
}

/// The options of `-drive` that limit it (qemu(1), `throttling`).
fn throttling(limit: RateLimit) -> String {
    let option = |name, value: Option<u64>| value.map(|value| format!(",throttling.{name}-total={value}"));
    let options = [option("bps", limit.bytes_per_second), option("iops", limit.operations_per_second)];
    options.into_iter().flatten().collect()
}

/// Not `graphics=off`: then SeaBIOS would write its own words to the serial line.
fn machine_name(machine: Machine) -> &'static str {
    match machine {
        Machine::Q35 => "q35",
        // Without a real-time clock Linux starts in 1970.
        Machine::Microvm => "microvm,rtc=on",
    }
}

fn accelerator(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    }
}

/// The ending of virtio devices' names.
fn bus(machine: Machine) -> &'static str {
    match machine {
        Machine::Q35 => "pci",
        Machine::Microvm => "device",
    }
}

/// The device by which a guest tells that its kernel has panicked (docs/specs/pvpanic.txt).
fn pvpanic(machine: Machine) -> &'static str {
    match machine {
        Machine::Q35 => "pvpanic-pci",
        Machine::Microvm => "pvpanic",
    }
}

/// A comma in a value is written twice (qemu(1), `-drive file`).
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_name_or_path_starts_no_option() {
        let disk =
            Disk { path: "a,readonly=off".into(), serial: "s".into(), read_only: true, rate_limit: None };
        let spec = VmSpec {
            disks: vec![disk],
            by_descriptor: false,
            ..VmSpec::new("x,debug-threads=on", "k".into(), 1 << 20, Accelerator::Tcg)
        };
        let arguments = of(Machine::Q35, &spec, Origin::Boot);
        assert!(arguments.contains(&"guest=x,,debug-threads=on".to_owned()));
        assert!(arguments.iter().any(|argument| argument.contains("file=a,,readonly=off,readonly=on")));
    }
}
