//! The way to the host: a virtio-serial port, connections over vsock, or a descriptor that we were
//! given.

use std::fs::{File, OpenOptions};
use std::future::pending;
use std::io::{Read, Result, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hypeman_agent::{PORT_NAME, VSOCK_PORT};
use hypeman_record::guest::config::AgentChannel;
use rustix::event::epoll;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use super::Setting;
use super::pipe::watch;

/// How often it is looked for a device whose driver is still being loaded.
const LOOK: Duration = Duration::from_millis(5);

/// Where channels come from.
pub(crate) enum Channels {
    /// One, as long as we are.
    One(Option<Channel>),
    /// One after the other.
    Vsock(VsockListener, Option<VsockStream>),
}

/// One of them.
pub(crate) enum Channel {
    Port(Port),
    Vsock(VsockStream),
    Socket(UnixStream),
}

impl Channels {
    /// As the host has made them.
    pub(crate) async fn open(setting: &Setting) -> Result<Channels> {
        if let Some(number) = setting.channel {
            return Ok(Channels::One(Some(Channel::Socket(given(number)?))));
        }
        match setting.config.agent {
            AgentChannel::Port => {
                let path = loop {
                    match port() {
                        Some(path) => break path,
                        None => tokio::time::sleep(LOOK).await,
                    }
                };
                Ok(Channels::One(Some(Channel::Port(Port::open(&path)?))))
            }
            AgentChannel::Vsock => {
                let address = VsockAddr::new(VMADDR_CID_ANY, VSOCK_PORT);
                Ok(Channels::Vsock(VsockListener::bind(address)?, None))
            }
        }
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Result<Channel> {
        match self {
            Channels::One(channel) => match channel.take() {
                Some(channel) => Ok(channel),
                None => Err(std::io::ErrorKind::UnexpectedEof.into()),
            },
            Channels::Vsock(listener, next) => match next.take() {
                Some(next) => Ok(Channel::Vsock(next)),
                None => Ok(Channel::Vsock(listener.accept().await?.0)),
            },
        }
    }

    /// Waits until there is another one.
    pub(crate) async fn again(&mut self) -> Result<()> {
        match self {
            Channels::One(_) => pending().await,
            Channels::Vsock(listener, next) => {
                *next = Some(listener.accept().await?.0);
                Ok(())
            }
        }
    }
}

/// The device file of the port, found by the name that the host gave it.
fn port() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let ours = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT_NAME)
    };
    let path = entries.into_iter().find(ours).map(|entry| PathBuf::from("/dev").join(entry.file_name()))?;
    path.exists().then_some(path)
}

/// A socket that we were started with.
#[allow(unsafe_code)]
fn given(number: i32) -> Result<UnixStream> {
    // SAFETY: our starter says so; nothing else in this process uses it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// A virtio-serial port. While nobody is at its other end it reads as ended, and polls as hung up:
/// so it is waited for by an epoll of its own, edge by edge, and an end is taken for nothing to
/// read (`port_fops_read`, `port_fops_poll` in drivers/char/virtio_console.c).
pub(crate) struct Port {
    file: File,
    edges: AsyncFd<OwnedFd>,
    /// Whether a reader and a writer wait; an edge may be meant for the other one.
    waits: [bool; 2],
}

const READER: usize = 0;
const WRITER: usize = 1;

impl Port {
    fn open(path: &PathBuf) -> Result<Port> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path)?;
        let edges = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&edges, file.as_fd(), epoll::EventData::new_u64(0), flags)?;
        Ok(Port { file, edges: watch(edges, Interest::READABLE)?, waits: [false; 2] })
    }

    /// Waits for an edge after an attempt that came to nothing. Ready is worth another attempt.
    fn poll_edge(&mut self, who: usize, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.waits[who] = true;
        let mut ready = ready!(self.edges.poll_read_ready(cx))?;
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 1];
        epoll::wait(ready.get_inner(), &mut events, Some(&rustix::event::Timespec::default()))?;
        ready.clear_ready();
        self.waits[who] = false;
        if self.waits[1 - who] {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let port = self.get_mut();
        loop {
            match port.file.read(buffer.initialize_unfilled()) {
                Ok(0) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(port.poll_edge(READER, cx))?;
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let port = self.get_mut();
        loop {
            match port.file.write(bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                written => return Poll::Ready(written),
            }
            ready!(port.poll_edge(WRITER, cx))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

macro_rules! each {
    ($channel:expr, $one:ident => $does:expr) => {
        match $channel.get_mut() {
            Channel::Port($one) => $does,
            Channel::Vsock($one) => $does,
            Channel::Socket($one) => $does,
        }
    };
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        each!(self, one => Pin::new(one).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        each!(self, one => Pin::new(one).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        each!(self, one => Pin::new(one).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        each!(self, one => Pin::new(one).poll_shutdown(cx))
    }
}
