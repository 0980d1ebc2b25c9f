//! A /dev with nothing in it but what a VMM needs.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Result;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Description of /dev and of the namespaces around it.
pub(crate) const DESCRIPTION: &str =
    "mounts, network, IPC and host name of its own; null, zero, random, urandom and kvm for devices";

/// Devices that do nothing to a host, by major and minor (Linux,
/// Documentation/admin-guide/devices.txt).
const HARMLESS: [(&str, u32, u32); 4] = [("null", 1, 3), ("zero", 1, 5), ("random", 1, 8), ("urandom", 1, 9)];

/// A file system with devices, which is mounted nowhere yet.
pub(crate) struct Devices {
    pub(crate) mount: OwnedFd,
    /// Each of them, to have rules made for it.
    pub(crate) nodes: Vec<OwnedFd>,
}

/// Makes the devices.
pub(crate) fn prepare(kvm: bool) -> std::result::Result<Devices, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("namespaces of its own are root's to make".to_owned());
    }
    make(kvm).map_err(|error| format!("a /dev of its own cannot be made: {error}"))
}

fn make(kvm: bool) -> Result<Devices> {
    let file_system = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&file_system, "size", "64k")?;
    rustix::mount::fsconfig_set_string(&file_system, "mode", "755")?;
    rustix::mount::fsconfig_create(&file_system)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = rustix::mount::fsmount(file_system.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let mut devices = HARMLESS.to_vec();
    if kvm && let Ok(metadata) = std::fs::metadata("/dev/kvm") {
        let device = metadata.rdev();
        devices.push(("kvm", rustix::fs::major(device), rustix::fs::minor(device)));
    }
    let all = Mode::from_raw_mode(0o666);
    let mut nodes = Vec::new();
    for (name, major, minor) in devices {
        rustix::fs::mknodat(&mount, name, FileType::CharacterDevice, all, rustix::fs::makedev(major, minor))?;
        rustix::fs::chmodat(&mount, name, all, rustix::fs::AtFlags::empty())?; // whatever the umask
        nodes.push(rustix::fs::openat(&mount, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    }
    Ok(Devices { mount, nodes })
}
