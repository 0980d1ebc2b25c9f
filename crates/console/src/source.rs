//! Where the bytes come from: a FIFO or a unix stream socket.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::fs::FileType;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::buffer::Buffer;
use crate::pace::Kind;

/// A socket in which this many bytes are found may have been full: one of single bytes has room for
/// some 280, and one that was full while it was being read shows half of that at least, in that
/// look or the next.
const MAY_HAVE_BEEN_FULL: u64 = 128;

/// A non-blocking source of bytes.
///
/// While bytes are being gathered it must not be registered with the runtime's epoll. A pipe wakes
/// an epoll that watches it on every single write (Linux, fs/pipe.c, `poll_usage`), and a socket
/// does so anyway: that would cost a wakeup for each byte.
pub(crate) struct Source {
    fd: OwnedFd,
    kind: Kind,
    registered: Option<Registered>,
    /// Whether nothing was there at the last look.
    was_empty: bool,
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
        Ok(Source { fd, kind, registered: None, was_empty: false })
    }

    /// Waits until there is something to read, or the other end has closed; registers with the
    /// runtime to do so.
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

    /// Returns its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Appends up to `most` bytes of what is there to `buffer`: `None` when there is nothing now,
    /// and 0 bytes when the other end has closed. While it is registered, the runtime may say that
    /// there is nothing although something has just come.
    pub(crate) fn read(&mut self, buffer: &mut Buffer, most: usize) -> std::io::Result<Option<usize>> {
        let there = self.there(buffer, most)?;
        unless_it_would_block(buffer.receive(there, |free| self.read_into(free)))
    }

    /// As [`Source::read`], for bytes that nobody keeps.
    pub(crate) fn lose(&mut self, buffer: &mut Buffer, most: usize) -> std::io::Result<Option<usize>> {
        let there = self.there(buffer, most)?;
        unless_it_would_block(buffer.lose(there, |scratch| self.read_into(scratch)))
    }

    /// How much to ask for: no more than there is, so that the read is all or nothing (see
    /// `crate::buffer`); and of an end that was closed, nothing. Notes in the buffer whether a
    /// socket may have been full.
    fn there(&mut self, buffer: &mut Buffer, most: usize) -> std::io::Result<usize> {
        let there = rustix::io::ioctl_fionread(&self.fd)?;
        if there > 0 && self.kind == Kind::Socket {
            let was_full = !self.was_empty && buffer.source_may_have_been_full();
            buffer.note_source(was_full || there >= MAY_HAVE_BEEN_FULL);
        }
        self.was_empty = there == 0;
        Ok(usize::try_from(there).unwrap_or(usize::MAX).clamp(1, most))
    }

    fn read_into(&self, free: &mut [u8]) -> std::io::Result<usize> {
        match &self.registered {
            Some(Registered::Pipe(pipe)) => pipe.try_read(free),
            Some(Registered::Socket(socket)) => socket.try_read(free),
            None => Ok(rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut *free))?),
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

fn unless_it_would_block(read: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match read {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
