//! Identity of this machine: its names, and its random numbers.
#![allow(unsafe_code)] // ioctl

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;

use hypeman_record::guest::config::GuestNetwork;

/// Has the kernel take what was written to its random numbers into account at once (random(4),
/// `RNDRESEEDCRNG` of linux/random.h).
const RESEED: libc::c_ulong = 0x5207;

/// Where a machine-id lies (machine-id(5)); the second may be a link to the first.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Names the guest, as docker names a container. An image that has no place for it does without.
pub(crate) fn name(hostname: &str, network: Option<&GuestNetwork>) {
    let _ = rustix::system::sethostname(hostname.as_bytes());
    let _ = std::fs::create_dir_all("/etc");
    let _ = std::fs::write("/etc/hostname", format!("{hostname}\n"));
    let address = network.map_or(Ipv4Addr::new(127, 0, 1, 1), |network| network.address);
    let mut hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{address}\t{hostname}\n");
    for (name, address) in network.iter().flat_map(|network| &network.hosts) {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let _ = std::fs::write("/etc/hosts", hosts);
}

/// Gives a machine that was copied an id of its own, where it has one.
pub(crate) fn renew_machine_id(id: &str) {
    for path in MACHINE_IDS.map(Path::new) {
        let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
        let is_id = |text: String| text.trim().len() == id.len(); // one that is still to be made is not ours to make
        if is_file && std::fs::read_to_string(path).is_ok_and(is_id) {
            let _ = std::fs::write(path, format!("{id}\n"));
        }
    }
}

/// Gives the kernel random numbers that no copy of this machine has.
pub(crate) fn reseed(seed: &str) -> std::io::Result<()> {
    let mut device = File::options().write(true).open("/dev/urandom")?;
    device.write_all(seed.as_bytes())?;
    // SAFETY: RNDRESEEDCRNG takes no argument.
    match unsafe { libc::ioctl(device.as_raw_fd(), RESEED) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
