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

/// A virtio-blk disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Raw file, relative to the working directory.
    pub path: PathBuf,
    /// Serial number the guest sees; at most 20 bytes (virtio 1.2, 5.2.6.1).
    pub serial: String,
    /// Whether the guest may write.
    pub read_only: bool,
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
    /// Name of a virtio-serial port to offer the guest, served on the host as `control.sock`.
    pub control_port: Option<String>,
}
