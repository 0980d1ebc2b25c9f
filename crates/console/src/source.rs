//! Where the bytes come from: a FIFO or a unix stream socket.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::fs::FileType;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// A non-blocking source of bytes.
///
/// It is registered with the runtime's epoll only while there is nothing to read. A pipe wakes an epoll that watches it
/// on every single write (Linux, fs/pipe.c, `poll_usage`), and a socket does so anyway: to be registered while bytes are
/// being gathered would cost a wakeup for each byte.
pub(crate) struct Source {
    fd: OwnedFd,
    kind: FileType,
}

impl Source {
    /// Takes a descriptor for what it is.
    pub(crate) fn new(fd: OwnedFd) -> std::io::Result<Source> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if !matches!(kind, FileType::Fifo | FileType::Socket) {
            let reason = format!("a console is a FIFO or a socket, not {kind:?}");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Source { fd, kind })
    }

    /// Waits until there is something to read, or the other end has closed.
    pub(crate) async fn readable(&self) -> std::io::Result<()> {
        let fd = self.fd.try_clone()?;
        match self.kind {
            FileType::Fifo => pipe::Receiver::from_owned_fd(fd)?.readable().await,
            _ => UnixStream::from_std(StdUnixStream::from(fd))?.readable().await,
        }
    }

    /// Reads what is there: `None` when there is nothing now, and 0 bytes when the other end has closed.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut *buffer)) {
            Ok(length) => Ok(Some(length)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
