//! Waits for the requests of clients that have gone.
//!
//! A shim that is killed leaves its connection behind, and with it a request that the VMM carries
//! out when its turn comes: also after those of the shim that takes over. The VMM closes such a
//! connection when it has dealt with it, one way or the other (`requests` in micro_http's
//! `server.rs`). So once the VMM holds no connection whose client has gone, nothing is in flight.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{SocketAddrUnix, getsockname};

use super::API_SOCKET;
use crate::process::VmmProcess;

/// Time between two looks at the VMM's connections.
const LOOK: Duration = Duration::from_millis(1);

/// Timeout for what is in flight: longer than any request takes, and no reason to leave a VM
/// without a shim.
const LONGEST: Duration = Duration::from_secs(60);

/// Waits until the VMM has dealt with what earlier clients have asked for. Those are accepted
/// before a later client is answered, so the caller has been answered once before.
pub(crate) async fn wait_until_done(process: &VmmProcess) {
    let deadline = Instant::now() + LONGEST;
    while connections(process).iter().any(has_hung_up) && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

/// The connections to its API that the VMM has accepted, and the socket on which it listens.
fn connections(process: &VmmProcess) -> Vec<OwnedFd> {
    let directory = format!("/proc/{}/fd", process.pid().as_raw_nonzero());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    });
    let numbers = sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that is closed meanwhile, or that we may not have, is nothing to wait for.
    numbers.filter_map(|number| process.borrow_held(number).ok()).filter(is_of_api).collect()
}

fn is_of_api(socket: &OwnedFd) -> bool {
    let address = getsockname(socket).ok().and_then(|address| SocketAddrUnix::try_from(address).ok());
    address
        .is_some_and(|address| address.path_bytes().is_some_and(|path| path.ends_with(API_SOCKET.as_bytes())))
}

fn has_hung_up(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}
