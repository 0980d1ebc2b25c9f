//! The root filesystem: the image's read-only disk, the instance's writable one over it, and what a
//! system expects on top.

use std::ffi::CString;
use std::path::Path;

use hypeman_record::guest::config::{GuestConfig, Mode};
use hypeman_record::guest::disk;
use rustix::mount::{MountFlags, mount};

use crate::disks::Disks;
use crate::report::{Context, Failure};
use crate::{identity, modprobe};

/// File systems an image's disk may have, the one that the host makes first.
const ROOT_TYPES: [&str; 3] = ["squashfs", "erofs", "ext4"];

/// Mounts the file systems that PID 1 itself needs.
pub(crate) fn mount_early() -> Result<(), Failure> {
    attach("devtmpfs", "/dev", "mode=0755")?;
    attach("proc", "/proc", "")?;
    attach("sysfs", "/sys", "")
}

/// Makes the image's root filesystem ours.
pub(crate) fn enter(disks: &Disks, config: &GuestConfig) -> Result<(), Failure> {
    for directory in ["/lower", "/upper", "/new"] {
        std::fs::create_dir_all(directory).context("make its mount points")?;
    }
    mount_root(disks.path(disk::ROOT)?)?;
    let overlay = disks.path(disk::OVERLAY)?;
    mount(overlay, "/upper", "ext4", MountFlags::NOATIME, None).context("mount the writable disk")?;
    for directory in ["/upper/upper", "/upper/work"] {
        std::fs::create_dir_all(directory).context("use the writable disk")?;
    }
    // Whose disk it was last; an image's own name is none of a machine's.
    let before = std::fs::read_to_string("/upper/upper/etc/hostname").ok();
    let options = c"lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work";
    mount("overlay", "/new", "overlay", MountFlags::NOATIME, Some(options)).context("join the disks")?;
    mount_system(config.mode)?;
    switch()?;
    if config.modules {
        mount_modules(&disks.wait_for(disk::MODULES)?);
        if config.mode == Mode::Exec {
            // A system has its own modprobe and udev.
            modprobe::offer();
            modprobe::make_nodes();
        }
    }
    identity::name(&config.hostname, config.network.as_ref());
    // A copy of another machine's disks.
    if let (Some(before), Some(id)) = (before, &config.machine_id)
        && before.trim() != config.hostname
    {
        identity::renew_machine_id(id);
    }
    Ok(())
}

fn mount_root(device: &Path) -> Result<(), Failure> {
    let mut result = Ok(());
    for kind in ROOT_TYPES {
        result = mount(device, "/lower", kind, MountFlags::RDONLY | MountFlags::NOATIME, None);
        if result.is_ok() {
            break;
        }
    }
    result.context("mount the image's disk")
}

/// Puts the kernel's modules where modprobe looks for them, which is also what the kernel itself
/// calls. An image in which they have no place does without.
fn mount_modules(device: &Path) {
    let version = rustix::system::uname().release().to_string_lossy().into_owned();
    let directory = Path::new("/lib/modules").join(version);
    if std::fs::create_dir_all(&directory).is_ok() {
        let _ = mount(device, &directory, "squashfs", MountFlags::RDONLY | MountFlags::NOATIME, None);
    }
}

/// Mounts what every system has; an init system mounts the rest itself.
fn mount_system(mode: Mode) -> Result<(), Failure> {
    attach("devtmpfs", "/new/dev", "mode=0755")?;
    attach("proc", "/new/proc", "")?;
    attach("sysfs", "/new/sys", "")?;
    if mode == Mode::Systemd {
        attach("tmpfs", "/new/run", "mode=0755")?;
    } else {
        // The image's /run is its own: services have directories in it.
        attach("devpts", "/new/dev/pts", "mode=0620,gid=5,ptmxmode=0666")?;
        attach("tmpfs", "/new/dev/shm", "mode=1777")?;
        // Each command of the agent's gets a cgroup of its own. Without the option, which kernels
        // before 6.0 do not know, a process waits for an RCU grace period to be put there
        // (Documentation/admin-guide/cgroup-v2.rst).
        attach("cgroup2", "/new/sys/fs/cgroup", "favordynmods")
            .or_else(|_| attach("cgroup2", "/new/sys/fs/cgroup", ""))?;
        for (target, link) in [
            ("/proc/self/fd", "/new/dev/fd"),
            ("/proc/self/fd/0", "/new/dev/stdin"),
            ("/proc/self/fd/1", "/new/dev/stdout"),
            ("/proc/self/fd/2", "/new/dev/stderr"),
        ] {
            let _ = std::os::unix::fs::symlink(target, link); // devtmpfs may have it
        }
    }
    Ok(())
}

fn attach(kind: &str, target: &str, options: &str) -> Result<(), Failure> {
    let doing = format!("mount {kind} on {target}");
    // An image may have a link where a directory belongs, and it is its own to break.
    std::fs::create_dir_all(target).context(&doing)?;
    let options = CString::new(options).context(&doing)?;
    match mount(kind, target, kind, MountFlags::empty(), Some(options.as_c_str())) {
        // A kernel may have mounted it by itself (CONFIG_DEVTMPFS_MOUNT).
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(error).context(&doing),
    }
}

/// Moves the new root over the old, as switch_root(8).
fn switch() -> Result<(), Failure> {
    let doing = "enter the image's root filesystem";
    std::env::set_current_dir("/new").context(doing)?;
    rustix::mount::mount_move(".", "/").context(doing)?;
    rustix::process::chroot(".").context(doing)?;
    std::env::set_current_dir("/").context(doing)
}
