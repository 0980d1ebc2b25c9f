//! An end of a pipe or of a terminal that is waited for.

use std::io::{ErrorKind, Result};
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Non-blocking.
pub(crate) struct Pipe(AsyncFd<OwnedFd>);

impl Pipe {
    pub(crate) fn new(end: OwnedFd) -> Result<Pipe> {
        rustix::io::ioctl_fionbio(&end, true)?;
        Ok(Pipe(watch(end, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// Reads what is there; 0 at its end. May be dropped at any time.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|end| Ok(rustix::io::read(end, &mut *buffer)?)) {
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) if is_closed_terminal(&error) => return Ok(0),
                Ok(read) => return read,
                Err(_) => {}
            }
        }
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|end| Ok(rustix::io::write(end, bytes)?)) {
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(written) => bytes = &bytes[written?..],
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// What the last one who had a terminal leaves behind.
fn is_closed_terminal(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Has the runtime watch a descriptor.
#[allow(unsafe_code)]
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open as long as it lives, is always the same descriptor, and nobody takes it out.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
