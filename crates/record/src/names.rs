//! Names inside the directory of an instance. The VMM and the shim use them relative to it.

/// Record of the user's settings.
pub const RECORD: &str = "instance.json";
/// Resolved launch of the last start.
pub const LAUNCH: &str = "launch.json";
/// Pids, times and end of the last run.
pub const RUN: &str = "run.json";
/// The address of the instance on a network.
pub const LEASE: &str = "lease.json";
/// Record of a TAP and its rules, while they exist.
pub const ATTACHED: &str = "attached.json";
/// Held (flock) while the instance is changed.
pub const LOCK: &str = "lock";
/// The mark of a VM that is in standby only while something is done with its machine.
pub const NAP: &str = "nap";
/// The shim's pid; held (flock) by the shim as long as it lives.
pub const SHIM_PID: &str = "shim.pid";
/// Where a shim finds the lock of its pid among its descriptors.
pub const SHIM_LOCK_FD: i32 = 3;
/// The VMM's pid; held (flock) by the VMM as long as it lives.
pub const VMM_PID: &str = "vmm.pid";
/// Where the shim answers.
pub const SHIM_SOCKET: &str = "shim.sock";
/// FIFO of the VMM's own standard output and error.
pub const VMM_OUTPUT: &str = "vmm.out";
/// A kernel the user gave, copied.
pub const KERNEL: &str = "kernel";
/// An initramfs the user gave, copied.
pub const INITRD: &str = "initrd";
/// The directory of the disks.
pub const DISKS: &str = "disks";
/// The writable overlay.
pub const OVERLAY: &str = "disks/overlay";
/// The configuration for init.
pub const CONFIG: &str = "disks/config";
/// Init's reports.
pub const STATUS: &str = "disks/status";
/// The directory of the logs.
pub const LOGS: &str = "logs";
/// The guest's console.
pub const APP_LOG: &str = "logs/app.log";
/// The VMM's own output.
pub const VMM_LOG: &str = "logs/vmm.log";
/// Log of hypeman's own actions, with reasons.
pub const HYPEMAN_LOG: &str = "logs/hypeman.log";
