//! Where the bytes come from: a FIFO or a unix stream socket.
#![allow(unsafe_code)] // reads into memory that need not be cleared first

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::fs::FileType;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::pace::Kind;

/// A non-blocking source of bytes.
///
/// While bytes are being gathered it must not be registered with the runtime's epoll. A pipe wakes an epoll that watches
/// it on every single write (Linux, fs/pipe.c, `poll_usage`), and a socket does so anyway: that would cost a wakeup for
/// each byte.
pub(crate) struct Source {
    fd: OwnedFd,
    kind: Kind,
    registered: Option<Registered>,
}

/// The same source as the runtime knows it.
enum Registered {
    Pipe(pipe::Receiver),
    Socket(UnixStream),
}

impl Source {
    /// Takes a descriptor for what it is.
    pub(crate) fn new(fd: OwnedFd) -> std::io::Result<Source> {
        let kind = match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            other => {
                let reason = format!("a console is a FIFO or a socket, not {other:?}");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
            }
        };
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Source { fd, kind, registered: None })
    }

    /// Waits until there is something to read, or the other end has closed; registers with the runtime to do so.
    pub(crate) async fn readable(&mut self) -> std::io::Result<()> {
        let registered = match self.registered.take() {
            Some(registered) => registered,
            None => self.register()?,
        };
        match self.registered.insert(registered) {
            Registered::Pipe(pipe) => pipe.readable().await,
            Registered::Socket(socket) => socket.readable().await,
        }
    }

    /// Lets the runtime forget it, until the next wait.
    pub(crate) fn unregister(&mut self) {
        self.registered = None;
    }

    /// What it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Appends up to about `most` bytes of what is there to `buffer`: `None` when there is nothing now, and 0 bytes when the
    /// other end has closed. While it is registered, a read may return more, and the runtime may say that there is nothing
    /// although something has just come.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>, most: usize) -> std::io::Result<Option<usize>> {
        buffer.reserve(most);
        let read = match &self.registered {
            Some(Registered::Pipe(pipe)) => pipe.try_read_buf(buffer),
            Some(Registered::Socket(socket)) => socket.try_read_buf(buffer),
            None => read_some(&self.fd, buffer, most),
        };
        match read {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn register(&self) -> std::io::Result<Registered> {
        let fd = self.fd.try_clone()?;
        match self.kind {
            Kind::Pipe => pipe::Receiver::from_owned_fd(fd).map(Registered::Pipe),
            Kind::Socket => UnixStream::from_std(StdUnixStream::from(fd)).map(Registered::Socket),
        }
    }
}

fn read_some(fd: &OwnedFd, buffer: &mut Vec<u8>, most: usize) -> std::io::Result<usize> {
    loop {
        let spare = buffer.spare_capacity_mut();
        let end = spare.len().min(most);
        match rustix::io::read(fd, &mut spare[..end]) {
            Ok((read, _)) => {
                let length = read.len();
                // SAFETY: these bytes lie right behind the others, within the capacity, and were just written by read(2).
                unsafe { buffer.set_len(buffer.len() + length) };
                return Ok(length);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
