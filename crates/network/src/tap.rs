//! TAPs: interfaces whose other end is a descriptor (Documentation/networking/tuntap.rst). Ours are not persistent: one is there as long as
//! somebody has it open.
#![allow(unsafe_code)] // ioctl

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use hypeman_files::AtPath;

use crate::error::{Error, Result};

const DEVICE: &str = "/dev/net/tun";

/// Makes a TAP. Each packet has a header in front by which guest and host leave sums and segments to each other (`virtio_net_hdr`).
pub(crate) fn make(name: &str) -> Result<OwnedFd> {
    let device = Path::new(DEVICE);
    let file = File::options().read(true).write(true).open(device).at(device)?;
    // SAFETY: all its fields are numbers or arrays of such, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Error::Unable(format!("{name} is too long for the name of an interface")));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short; // 0xd002 of 16 bits
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which lives until the call returns.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } {
        0 => Ok(file.into()),
        _ => Ok(Err(std::io::Error::last_os_error()).at(Path::new(name))?),
    }
}
