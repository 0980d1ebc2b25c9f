//! Numbers of the descriptors that a VMM inherits, in one table. A shim of another release finds
//! them by these numbers in a VMM that runs, so a number keeps its meaning.

/// QEMU: its QMP socket. Cloud Hypervisor: its API socket (`--api-socket fd=`, since v20.0).
pub const API: i32 = 3;

/// QEMU: the socket of the control port. Cloud Hypervisor: the FIFO of its event monitor.
pub const SECOND: i32 = 4;

/// The list of the members of its cgroup, which it enters before its program runs.
pub const CGROUP: i32 = 12;

/// The mount with its devices, which it enters before its program runs.
pub const DEVICES: i32 = 13;

/// The rules of Landlock, by which it is bound before its program runs.
pub const RULES: i32 = 14;

/// The file for its pid, which it writes before its program runs.
pub const PID: i32 = 15;

/// Its lock, which it holds as long as it lives.
pub const LOCK: i32 = 16;

/// The first of those that it only holds for later shims.
pub const HELD: i32 = 17;

/// Maximum number of those that it only holds.
pub const MAX_HELD: usize = 4;

/// The other end of its VM's interface.
pub const NETWORK: i32 = 24;

/// A descriptor that it keeps open, such as the lock of its network.
pub const KEPT: i32 = 25;

/// The kernel.
pub const KERNEL: i32 = 32;

/// The initramfs.
pub const INITRAMFS: i32 = 33;

/// The first disk; the others follow.
pub const FIRST_DISK: i32 = 34;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_one_meaning() {
        let held = (HELD..).take(MAX_HELD);
        let others =
            [API, SECOND, CGROUP, DEVICES, RULES, PID, LOCK, NETWORK, KEPT, KERNEL, INITRAMFS, FIRST_DISK];
        let mut all: Vec<i32> = held.chain(others).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(all.last(), Some(&FIRST_DISK), "disks have no end");
    }
}
