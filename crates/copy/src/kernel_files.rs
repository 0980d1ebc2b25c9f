//! File systems whose files the kernel makes up: a copy does not enter them, and their sizes tell
//! nothing.

use std::collections::HashSet;

/// Their names in `/proc/filesystems`.
const KINDS: [&str; 20] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Those that are mounted here.
pub(crate) struct KernelFiles(HashSet<u64>);

impl KernelFiles {
    /// Reads where they are mounted (proc_pid_mountinfo(5)).
    pub(crate) fn mounted() -> KernelFiles {
        let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        KernelFiles(String::from_utf8_lossy(&text).lines().filter_map(device_of).collect())
    }

    /// Whether a file of this device is one of theirs.
    pub(crate) fn are_on(&self, device: u64) -> bool {
        self.0.contains(&device)
    }
}

/// The device of a mount, if it is of such a kind.
fn device_of(line: &str) -> Option<u64> {
    let (mount, file_system) = line.split_once(" - ")?;
    let kind = file_system.split(' ').next()?;
    let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
    KINDS.contains(&kind).then_some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn proc_is_one_and_the_root_is_none() {
        let mounted = KernelFiles::mounted();
        let device = |path: &str| std::fs::metadata(path).unwrap().dev();
        assert!(mounted.are_on(device("/proc")) && !mounted.are_on(device("/")));
        let line = "24 30 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw";
        assert_eq!(device_of(line), Some(rustix::fs::makedev(0, 22)));
        assert_eq!(device_of("29 1 8:1 / / rw - ext4 /dev/sda1 rw"), None);
    }
}
