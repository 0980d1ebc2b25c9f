//! The description of a VM, the same for every hypervisor.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The hypervisors that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HypervisorKind {
    /// QEMU's q35 machine: PCI, ACPI.
    Qemu,
    /// QEMU's microvm machine: virtio-mmio, few devices, fast to boot.
    QemuMicrovm,
    /// Cloud Hypervisor.
    CloudHypervisor,
}

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualization by the kernel's KVM.
    Kvm,
    /// QEMU's own translator: slow, works everywhere.
    Tcg,
}

/// The most that a guest may ask of a disk in each second; what is `None` is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Bytes read and written.
    pub bytes_per_second: Option<u64>,
    /// Reads and writes.
    pub operations_per_second: Option<u64>,
}

/// A virtio-blk disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Raw file, relative to the working directory.
    pub path: PathBuf,
    /// Serial number the guest sees; at most 20 bytes (virtio 1.2, 5.2.6.1).
    pub serial: String,
    /// Whether the guest may write.
    pub read_only: bool,
    /// Its limits, if it has some.
    pub rate_limit: Option<RateLimit>,
}

/// A virtio-net interface. What is at its other end the VMM gets as a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// As `02:00:00:12:34:56`.
    pub mac: String,
    /// Kind of the file behind the descriptor.
    pub backend: Backend,
}

/// The host's end of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A TAP.
    Tap,
    /// A socket of the local kind, over which packets go with their length in front (qemu(1),
    /// `-netdev stream`); QEMU only.
    Stream,
}

/// A VM to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Name shown by the VMM's own tools (`ps`, monitor).
    pub name: String,
    /// Number of vCPUs, at least 1.
    pub vcpus: u32,
    /// Memory in bytes, a multiple of 1 MiB.
    pub memory: u64,
    /// Memory in bytes that can be added while the VM runs (virtio-mem); Cloud Hypervisor only.
    pub hotplug_memory: Option<u64>,
    /// bzImage or PVH ELF, relative to the working directory.
    pub kernel: PathBuf,
    /// Initramfs, relative to the working directory.
    pub initramfs: Option<PathBuf>,
    /// Kernel command line.
    pub cmdline: String,
    /// Disks in the order the guest shall see them.
    pub disks: Vec<Disk>,
    /// KVM or TCG; already decided, never "auto".
    pub accelerator: Accelerator,
    /// CPU features that QEMU's KVM refuses here, and that the guest does not get.
    #[serde(default)]
    pub cpu_left_out: Vec<String>,
    /// Whether the VMM gets its files as descriptors, and has a directory of its own. Not so in
    /// snapshots of releases before that, in which their paths stand.
    #[serde(default)]
    pub by_descriptor: bool,
    /// Its interface, if it has one.
    #[serde(default)]
    pub nic: Option<Nic>,
    /// Name of the channel between the host and someone in the guest: a virtio-serial port of that
    /// name, served on the host as `control.sock`; on Cloud Hypervisor vsock.
    pub control_port: Option<String>,
}

impl VmSpec {
    /// A VM with one vCPU that boots a kernel alone, without disks and without a network. Its VMM
    /// gets its files as descriptors.
    #[must_use]
    pub fn new(name: &str, kernel: PathBuf, memory: u64, accelerator: Accelerator) -> VmSpec {
        VmSpec {
            name: name.to_owned(),
            vcpus: 1,
            memory,
            hotplug_memory: None,
            kernel,
            initramfs: None,
            cmdline: String::new(),
            disks: Vec::new(),
            accelerator,
            cpu_left_out: Vec::new(),
            by_descriptor: true,
            nic: None,
            control_port: None,
        }
    }
}

/// Result of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuFeatures {
    /// Features that guests do not get, as QEMU names them.
    pub left_out: Vec<String>,
    /// Why: QEMU's words when it had them.
    pub why: Option<String>,
}
