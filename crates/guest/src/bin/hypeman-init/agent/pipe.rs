//! An end of a pipe or of a terminal that is waited for.

use std::io::{ErrorKind, Result};
use std::os::fd::OwnedFd;

use hypeman_agent::frames::Kind;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Non-blocking.
pub(crate) struct Pipe(AsyncFd<OwnedFd>);

impl Pipe {
    pub(crate) fn new(end: OwnedFd) -> Result<Pipe> {
        rustix::io::ioctl_fionbio(&end, true)?;
        Ok(Pipe(watch(end, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// Waits until there may be something to read.
    async fn ready(&self) -> Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Reads what is there; 0 at its end.
    fn try_read(&self, buffer: &mut [u8]) -> Result<usize> {
        match self.0.try_io(Interest::READABLE, |end| Ok(rustix::io::read(end, &mut *buffer)?)) {
            Err(error) if is_closed_terminal(&error) => Ok(0),
            read => read,
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

/// Output of a command: our ends of it, as long as they are open.
pub(crate) struct Printed {
    pub(crate) output: Option<Pipe>,
    /// Apart, unless both go to a terminal.
    pub(crate) errors: Option<Pipe>,
}

impl Printed {
    pub(crate) fn is_open(&self) -> bool {
        self.output.is_some() || self.errors.is_some()
    }

    /// The next piece of it, and what it is; for ever none when all is closed. May be dropped at
    /// any time.
    pub(crate) async fn next(&mut self, buffer: &mut [u8]) -> Result<(Kind, usize)> {
        loop {
            let kind = tokio::select! {
                biased;
                ready = ready(self.output.as_ref()) => ready.map(|()| Kind::Data)?,
                ready = ready(self.errors.as_ref()) => ready.map(|()| Kind::Error)?,
            };
            let pipe = if kind == Kind::Data { &mut self.output } else { &mut self.errors };
            match pipe.as_ref().map_or(Ok(0), |pipe| pipe.try_read(buffer)) {
                Ok(0) => *pipe = None,
                Ok(count) => return Ok((kind, count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads for nobody. Never done.
    pub(crate) async fn discard(&mut self) {
        let mut buffer = vec![0; 4096];
        while self.next(&mut buffer).await.is_ok() {}
        std::future::pending().await
    }
}

async fn ready(pipe: Option<&Pipe>) -> Result<()> {
    match pipe {
        Some(pipe) => pipe.ready().await,
        None => std::future::pending().await,
    }
}

/// Whether the error is that of a terminal whose last user has closed it.
fn is_closed_terminal(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Has the runtime watch a descriptor.
#[allow(unsafe_code)]
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open as long as it lives, is always the same descriptor, and nobody
    // takes it out.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
