//! The body of `vm.create` (`vmm/src/api/openapi/cloud-hypervisor.yaml`, `VmConfig`), as far as we
//! use it. A release that does not know a field ignores it: none of its types denies unknown ones
//! (`vmm/src/vm_config.rs`).

use std::path::Path;

use hypeman_record::spec::{Disk, RateLimit, VmSpec};
use serde::Serialize;

use super::{SERIAL_SOCKET, VSOCK_SOCKET};

/// Time in which a token bucket fills up again, in milliseconds.
const REFILL_MS: u64 = 1000;

/// The guest's address on vsock: the first that is not reserved (vsock(7)). It is known to its own
/// VMM only, so all have the same.
const CID: u32 = 3;

/// A VM as Cloud Hypervisor wants it described.
#[derive(Debug, Serialize)]
pub(crate) struct VmConfig<'a> {
    cpus: Cpus,
    memory: Memory,
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    disks: Vec<DiskConfig<'a>>,
    serial: Serial,
    console: Console,
    /// The device by which a guest tells that its kernel has panicked.
    pvpanic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    vsock: Option<Vsock>,
}

#[derive(Debug, Serialize)]
struct Vsock {
    cid: u32,
    socket: &'static str,
}

#[derive(Debug, Serialize)]
struct Cpus {
    boot_vcpus: u32,
    max_vcpus: u32,
}

#[derive(Debug, Serialize)]
struct Memory {
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hotplug_size: Option<u64>,
    hotplug_method: &'static str,
}

#[derive(Debug, Serialize)]
struct Payload<'a> {
    kernel: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    initramfs: Option<&'a Path>,
    cmdline: &'a str,
}

#[derive(Debug, Serialize)]
struct DiskConfig<'a> {
    path: &'a Path,
    readonly: bool,
    serial: &'a str,
    /// Since v51.0, which otherwise guesses, and then forbids the guest to write sector 0.
    image_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limiter_config: Option<RateLimiter>,
}

#[derive(Debug, Serialize)]
struct RateLimiter {
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth: Option<TokenBucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ops: Option<TokenBucket>,
}

#[derive(Debug, Serialize)]
struct TokenBucket {
    size: u64,
    refill_time: u64,
}

#[derive(Debug, Serialize)]
struct Serial {
    mode: &'static str,
    socket: &'static str,
}

#[derive(Debug, Serialize)]
struct Console {
    mode: &'static str,
}

impl<'a> VmConfig<'a> {
    /// The description of `spec`.
    pub(crate) fn new(spec: &'a VmSpec) -> VmConfig<'a> {
        VmConfig {
            cpus: Cpus { boot_vcpus: spec.vcpus, max_vcpus: spec.vcpus },
            memory: Memory {
                size: spec.memory,
                hotplug_size: spec.hotplug_memory,
                hotplug_method: "VirtioMem",
            },
            payload: Payload {
                kernel: &spec.kernel,
                initramfs: spec.initramfs.as_deref(),
                cmdline: &spec.cmdline,
            },
            disks: spec.disks.iter().map(DiskConfig::new).collect(),
            serial: Serial { mode: "Socket", socket: SERIAL_SOCKET },
            console: Console { mode: "Off" },
            pvpanic: true,
            vsock: spec.control_port.as_ref().map(|_| Vsock { cid: CID, socket: VSOCK_SOCKET }),
        }
    }
}

impl<'a> DiskConfig<'a> {
    fn new(disk: &'a Disk) -> DiskConfig<'a> {
        DiskConfig {
            path: &disk.path,
            readonly: disk.read_only,
            serial: &disk.serial,
            image_type: "Raw",
            rate_limiter_config: disk.rate_limit.map(RateLimiter::new),
        }
    }
}

impl RateLimiter {
    fn new(limit: RateLimit) -> RateLimiter {
        let bucket = |size| TokenBucket { size, refill_time: REFILL_MS };
        RateLimiter {
            bandwidth: limit.bytes_per_second.map(bucket),
            ops: limit.operations_per_second.map(bucket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hypeman_record::spec::Accelerator;

    #[test]
    fn a_vm_is_described_in_the_words_of_the_api() {
        let disk = Disk {
            path: "disk.img".into(),
            serial: "root".into(),
            read_only: true,
            rate_limit: Some(RateLimit { bytes_per_second: Some(1 << 20), operations_per_second: None }),
        };
        let spec = VmSpec {
            vcpus: 2,
            hotplug_memory: Some(2 << 30),
            initramfs: Some("initramfs".into()),
            cmdline: "quiet".into(),
            disks: vec![disk],
            by_descriptor: false,
            control_port: Some("agent".into()),
            ..VmSpec::new("x", "vmlinuz".into(), 1 << 30, Accelerator::Kvm)
        };
        let expected = serde_json::json!({
            "cpus": {"boot_vcpus": 2, "max_vcpus": 2},
            "memory": {"size": 1 << 30, "hotplug_size": 2_u64 << 30, "hotplug_method": "VirtioMem"},
            "payload": {"kernel": "vmlinuz", "initramfs": "initramfs", "cmdline": "quiet"},
            "disks": [{
                "path": "disk.img", "readonly": true, "serial": "root", "image_type": "Raw",
                "rate_limiter_config": {"bandwidth": {"size": 1 << 20, "refill_time": 1000}},
            }],
            "serial": {"mode": "Socket", "socket": "serial.sock"},
            "console": {"mode": "Off"},
            "pvpanic": true,
            "vsock": {"cid": 3, "socket": "vsock.sock"},
        });
        assert_eq!(serde_json::to_value(VmConfig::new(&spec)).unwrap(), expected);
    }
}
