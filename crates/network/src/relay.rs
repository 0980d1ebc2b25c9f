//! The host's own ports that stand for a guest's: taken, so that nobody else has them, and relayed
//! to the guest where the kernel does not do that by rules ([`crate::rules`]): what comes over the
//! loopback interface, and over IPv6.

mod udp;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hypeman_record::network::{Protocol, Published};
use socket2::{Domain, Socket, Type};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Timeout for a guest to accept a connection.
const CONNECTING: Duration = Duration::from_secs(30);

/// Maximum number of TCP connections, and of UDP clients, at once for one VM.
const MAX_CLIENTS: usize = 1024;

/// Descriptors that are kept for the console, its logs and those who ask the shim for something.
const KEPT: usize = 256;

/// Descriptors of a TCP connection and a UDP client: of the first there are two ends.
const EACH: usize = 3;

/// Time between two reports that clients are too many.
const REPORT_AGAIN: Duration = Duration::from_secs(600);

/// How many free ports are tried, one of which has to be free for IPv6 too.
const ATTEMPTS: usize = 20;

/// Accepts no more for a moment where the host has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Ports that were taken.
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: Vec<(Socket, Published)>,
}

impl Listeners {
    /// Takes the ports that are to be published, and returns them with those that were found free.
    ///
    /// # Errors
    /// [`Error::Port`] when somebody else has one.
    pub fn bind(published: &[Published]) -> Result<(Listeners, Vec<Published>)> {
        let mut listeners = Listeners::default();
        let mut found = Vec::new();
        for published in published {
            let (sockets, host) = take(published)?;
            let published = Published { host: Some(host), host_to: None, ..*published };
            listeners.sockets.extend(sockets.into_iter().map(|socket| (socket, published)));
            found.push(published);
        }
        Ok((listeners, found))
    }
}

fn take(published: &Published) -> Result<(Vec<Socket>, u16)> {
    let failed = |source| Error::Port {
        address: published.address,
        port: published.host.unwrap_or(0),
        protocol: published.protocol,
        source,
    };
    let Some(host) = published.host else {
        let mut result = take_port(published, 0);
        for _ in 1..ATTEMPTS {
            if result.is_ok() {
                break;
            }
            result = take_port(published, 0);
        }
        return result.map_err(failed);
    };
    let last = published.host_to.unwrap_or(host);
    for port in host..last {
        match take_port(published, port) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            taken => return taken.map_err(failed),
        }
    }
    take_port(published, last).map_err(failed)
}

/// Takes a port at the address, or at all of both families.
fn take_port(published: &Published, port: u16) -> std::io::Result<(Vec<Socket>, u16)> {
    if let Some(address) = published.address {
        let socket = listen(SocketAddr::new(address, port), published.protocol)?;
        let port = port_of(&socket)?;
        return Ok((vec![socket], port));
    }
    let socket = listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), published.protocol)?;
    let port = port_of(&socket)?;
    let mut sockets = vec![socket];
    match listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), published.protocol) {
        Ok(socket) => sockets.push(socket),
        // A host without IPv6.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
        Err(error) => return Err(error),
    }
    Ok((sockets, port))
}

fn port_of(socket: &Socket) -> std::io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.ok_or(ErrorKind::InvalidData)?.port())
}

fn listen(address: SocketAddr, protocol: Protocol) -> std::io::Result<Socket> {
    let kind = if protocol == Protocol::Tcp { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        socket.set_reuse_address(true)?; // connections of before may still be on their way out
    }
    socket.bind(&address.into())?;
    if protocol == Protocol::Tcp {
        socket.listen(1024)?;
    }
    Ok(socket)
}

/// Says now and then what becomes of clients that are too many.
pub struct Report {
    say: Box<dyn Fn(&str)>,
    last: Cell<Option<Instant>>,
}

impl Report {
    /// A report to `say`.
    pub fn new(say: impl Fn(&str) + 'static) -> Report {
        Report { say: Box::new(say), last: Cell::new(None) }
    }

    fn say(&self, text: &str) {
        if self.last.get().is_none_or(|last| last.elapsed() > REPORT_AGAIN) {
            self.last.set(Some(Instant::now()));
            (self.say)(text);
        }
    }
}

impl Default for Report {
    fn default() -> Report {
        Report::new(|_| {})
    }
}

/// How many TCP connections, and how many UDP clients, a process may relay at once that may have so
/// many descriptors.
fn most(descriptors: u64) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    (descriptors.saturating_sub(KEPT) / EACH).clamp(1, MAX_CLIENTS)
}

/// Relays what comes to these ports to the guest, for as long as it is not dropped. Needs a tokio
/// `LocalSet`.
pub async fn serve(listeners: Listeners, guest: Ipv4Addr, report: Report) {
    let most = most(hypeman_files::raise_descriptor_limit());
    let (clients, report) = (Arc::new(Semaphore::new(most)), Rc::new(report));
    let is_udp = |(_, published): &&(Socket, Published)| published.protocol == Protocol::Udp;
    let of_each = most / listeners.sockets.iter().filter(is_udp).count().max(1);
    let mut served = JoinSet::new();
    for (socket, published) in listeners.sockets {
        let (clients, report) = (clients.clone(), report.clone());
        let target = SocketAddr::new(IpAddr::V4(guest), published.guest);
        match published.protocol {
            Protocol::Tcp => served.spawn_local(async move {
                if let Ok(listener) = TcpListener::from_std(socket.into()) {
                    accept(listener, target, clients, &report).await;
                }
            }),
            Protocol::Udp => served.spawn_local(udp::exchange(socket, target, of_each.max(1), report)),
        };
    }
    while served.join_next().await.is_some() {}
    std::future::pending().await
}

async fn accept(listener: TcpListener, target: SocketAddr, clients: Arc<Semaphore>, report: &Report) {
    let mut connections = JoinSet::new();
    loop {
        if clients.available_permits() == 0 {
            report.say("so many connections to published ports at once that more have to wait");
        }
        let Ok(permit) = clients.clone().acquire_owned().await else { return };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((mut client, _)) => {
                    connections.spawn_local(async move {
                        let _permit = permit;
                        if let Ok(Ok(mut guest)) = timeout(CONNECTING, TcpStream::connect(target)).await {
                            let _ = copy_bidirectional(&mut client, &mut guest).await;
                        }
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = connections.join_next() => {} // not kept when they have ended
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener as StdListener, UdpSocket as StdUdp};
    use tokio::net::UdpSocket;

    fn published(text: &str) -> Vec<Published> {
        crate::publish::parse(text).unwrap()
    }

    #[test]
    fn a_port_that_somebody_has_is_named() {
        let theirs = StdListener::bind("127.0.0.1:0").unwrap();
        let port = theirs.local_addr().unwrap().port();
        let error = Listeners::bind(&published(&format!("127.0.0.1:{port}:80"))).unwrap_err().to_string();
        assert!(error.contains(&format!("{port}/tcp")) && error.contains("127.0.0.1"), "{error}");
        let error = Listeners::bind(&published(&format!("{port}:80"))).unwrap_err().to_string();
        assert!(error.contains("addresses"), "{error}");
        let theirs = StdUdp::bind("127.0.0.1:0").unwrap();
        let port = theirs.local_addr().unwrap().port();
        assert!(Listeners::bind(&published(&format!("127.0.0.1:{port}:80/udp"))).is_err());
    }

    #[test]
    fn of_a_range_the_first_that_is_free_is_taken() {
        let theirs = StdListener::bind("127.0.0.1:0").unwrap();
        let port = theirs.local_addr().unwrap().port();
        let last = port.saturating_add(20);
        let (_listeners, found) =
            Listeners::bind(&published(&format!("127.0.0.1:{port}-{last}:80"))).unwrap();
        assert!(found[0].host.unwrap() > port && found[0].host_to.is_none(), "{found:?}");
        assert!(Listeners::bind(&published(&format!("127.0.0.1:{port}-{port}:80"))).is_err());
    }

    #[test]
    fn a_free_port_is_found_and_is_taken_then() {
        let (_listeners, found) = Listeners::bind(&published("127.0.0.1::80")).unwrap();
        let port = found[0].host.unwrap();
        assert!(StdListener::bind(("127.0.0.1", port)).is_err());
    }

    #[test]
    fn descriptors_are_kept_for_the_console_however_few_there_are() {
        assert_eq!((most(1024), most(1 << 20), most(0)), (256, 1024, 1));
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }

    #[test]
    fn what_comes_to_a_port_goes_to_the_guest_and_back() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        run(async {
            // In place of a guest, another address of this host.
            let guest: Ipv4Addr = "127.0.0.9".parse().unwrap();
            let server = TcpListener::bind((guest, 0)).await.unwrap();
            let echo = UdpSocket::bind((guest, server.local_addr().unwrap().port())).await.unwrap();
            let port = server.local_addr().unwrap().port();
            let ports = [published(&format!("[::1]::{port}")), published(&format!("127.0.0.1::{port}/udp"))];
            let (listeners, found) = Listeners::bind(&ports.concat()).unwrap();
            let _relay = tokio::task::spawn_local(serve(listeners, guest, Report::default()));
            let client =
                tokio::task::spawn_local(TcpStream::connect((Ipv6Addr::LOCALHOST, found[0].host.unwrap())));
            let (mut accepted, _) = server.accept().await.unwrap();
            let mut client = client.await.unwrap().unwrap();
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut text = String::new();
            accepted.read_to_string(&mut text).await.unwrap();
            accepted.write_all(b"answer").await.unwrap();
            drop(accepted);
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "questionanswer");

            for _ in 0..2 {
                let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                client.connect(("127.0.0.1", found[1].host.unwrap())).await.unwrap();
                let mut bytes = [0; 16];
                for word in ["one", "two"] {
                    client.send(word.as_bytes()).await.unwrap();
                    let (length, from) = echo.recv_from(&mut bytes).await.unwrap();
                    echo.send_to(&bytes[..length], from).await.unwrap();
                    let length = client.recv(&mut bytes).await.unwrap();
                    assert_eq!(&bytes[..length], word.as_bytes());
                }
            }
        });
    }
}
