//! The loopback interface.
#![allow(unsafe_code)] // ioctl

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketType};

/// Brings `lo` up, whereupon Linux gives it 127.0.0.1/8 and ::1 (`inetdev_event` in
/// net/ipv4/devinet.c, `init_loopback` in net/ipv6/addrconf.c). A kernel without networking does
/// without.
pub(crate) fn bring_up() {
    let Ok(socket) = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None) else { return };
    // SAFETY: all its fields are numbers or arrays of such, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short; // 0x41
    // SAFETY: SIOCSIFFLAGS reads a `struct ifreq` (netdevice(7)), which lives until the call
    // returns.
    unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
}
