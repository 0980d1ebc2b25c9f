//! TAPs: interfaces whose other end is a descriptor (Documentation/networking/tuntap.rst). Ours are
//! not persistent: one is there as long as somebody has it open.
#![allow(unsafe_code)] // ioctl

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use hypeman_files::AtPath;

use crate::error::Result;

const DEVICE: &str = "/dev/net/tun";

/// How long one of that name may still be there: a VMM that was killed lets go of its TAP after its
/// lock, by which it was known to be there.
const LEAVING: Duration = Duration::from_secs(2);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes a TAP, when the last of that name has gone.
pub(crate) fn make(name: &str) -> Result<OwnedFd> {
    let deadline = Instant::now() + LEAVING;
    loop {
        match try_make(name) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            made => return Ok(made.at(Path::new(name))?),
        }
    }
}

/// Makes one. Each packet has a header in front by which guest and host leave sums and segments to
/// each other (`virtio_net_hdr`).
fn try_make(name: &str) -> std::io::Result<OwnedFd> {
    let file = File::options().read(true).write(true).open(DEVICE)?;
    // SAFETY: all its fields are numbers or arrays of such, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(ErrorKind::InvalidFilename.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short; // 0xd002 of 16 bits
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which lives until the call returns.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } {
        0 => Ok(file.into()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
