//! Where the bytes come from: a FIFO or a unix stream socket.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::fs::FileType;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// A non-blocking source of bytes.
pub(crate) enum Source {
    Pipe(pipe::Receiver),
    Socket(UnixStream),
}

impl Source {
    /// Takes a descriptor for what it is.
    pub(crate) fn new(fd: OwnedFd) -> std::io::Result<Source> {
        let mode = rustix::fs::fstat(&fd)?.st_mode;
        match FileType::from_raw_mode(mode) {
            FileType::Fifo => pipe::Receiver::from_owned_fd(fd).map(Source::Pipe),
            FileType::Socket => {
                let stream = StdUnixStream::from(fd);
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Source::Socket)
            }
            other => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                format!("a console is a FIFO or a socket, not {other:?}"),
            )),
        }
    }

    /// Waits until there is something to read, or the other end has closed.
    pub(crate) async fn readable(&self) -> std::io::Result<()> {
        match self {
            Source::Pipe(pipe) => pipe.readable().await,
            Source::Socket(socket) => socket.readable().await,
        }
    }

    /// Reads what is there: `None` when there is nothing now, and 0 bytes when the other end has closed.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        let read = match self {
            Source::Pipe(pipe) => pipe.try_read(buffer),
            Source::Socket(socket) => socket.try_read(buffer),
        };
        available(read)
    }

    /// As [`Source::try_read`], but asks the system itself: tokio says that nothing is there as long as it has not been
    /// told otherwise, which is too late for a last look.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        let fd = match self {
            Source::Pipe(pipe) => pipe.as_fd(),
            Source::Socket(socket) => socket.as_fd(),
        };
        available(rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer)).map_err(Into::into))
    }
}

fn available(read: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match read {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
