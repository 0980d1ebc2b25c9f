//! Datagrams to a published port, and the guest's answers: each client has a socket of its own
//! towards the guest, by whose port the answers find it. They come from the address that the client
//! has asked.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{ErrorKind, IoSliceMut, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::SendFlags;
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::Report;

/// Time after which a client that has had one answer, or none, is forgotten: Linux's own tracking's
/// (`nf_conntrack_udp_timeout`).
const SILENCE: Duration = Duration::from_secs(30);

/// Time after which one that has asked again after an answer is forgotten
/// (`nf_conntrack_udp_timeout_stream`).
const SILENCE_OF_STREAM: Duration = Duration::from_secs(120);

/// Maximum size of a datagram in bytes.
const DATAGRAM: usize = 65536;

/// A client, and the address that it asks.
type Client = (SocketAddr, Option<IpAddr>);

/// State of a client.
struct Flow {
    guest: Rc<UdpSocket>,
    last: Rc<Cell<Instant>>,
    state: Rc<Cell<State>>,
    task: AbortHandle,
}

/// How far the conversation has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Asked,
    Answered,
    Stream,
}

/// The host's socket.
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Port {
    fn new(socket: Socket) -> Result<Port> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Port { socket, state })
    }

    /// The next datagrams, of one client's: several of the same size may come at once.
    async fn receive(&self, buffer: &mut [u8]) -> Result<RecvMeta> {
        self.socket
            .async_io(Interest::READABLE, || {
                let mut meta = [RecvMeta::default()];
                self.state.recv((&self.socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta)?;
                Ok(meta[0])
            })
            .await
    }

    async fn send(&self, (client, asked): Client, datagram: &[u8]) {
        let transmit = Transmit {
            destination: client,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: asked,
        };
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit));
        let _ = sent.await; // datagrams may be lost
    }
}

/// Relays what comes to a port to the guest, for at most so many clients at once, as long as it is
/// not dropped.
pub(super) async fn exchange(socket: Socket, target: SocketAddr, most: usize, report: Rc<Report>) {
    let Ok(port) = Port::new(socket).map(Rc::new) else { return };
    let mut flows: HashMap<Client, Flow> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = port.receive(&mut buffer) => {
                let Ok(meta) = received else { continue };
                let client = (meta.addr, meta.dst_ip);
                if !flows.contains_key(&client) {
                    if flows.len() >= most {
                        make_room(&mut flows);
                        report.say(&format!(
                            "{most} clients of a published UDP port at once: the one that was silent longest gives way"
                        ));
                    }
                    let Ok(flow) = begin(&port, client, target, &mut tasks).await else { continue };
                    flows.insert(client, flow);
                }
                if let Some(flow) = flows.get(&client) {
                    flow.last.set(Instant::now());
                    if flow.state.get() == State::Answered {
                        flow.state.set(State::Stream);
                    }
                    for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                        // One that is full is not waited for: others ask too. Not tokio's, which
                        // has yet to hear of a new socket.
                        let _ = rustix::net::send(&flow.guest, datagram, SendFlags::DONTWAIT);
                    }
                }
            }
            Some(Ok(client)) = tasks.join_next() => {
                flows.remove(&client);
            }
        }
    }
}

async fn begin(
    port: &Rc<Port>,
    client: Client,
    target: SocketAddr,
    tasks: &mut JoinSet<Client>,
) -> Result<Flow> {
    let guest = Rc::new(towards(target).await?);
    let last = Rc::new(Cell::new(Instant::now()));
    let state = Rc::new(Cell::new(State::Asked));
    let task = {
        let (port, guest, last, state) = (port.clone(), guest.clone(), last.clone(), state.clone());
        tasks.spawn_local(async move {
            answer(&port, client, &guest, &last, &state).await;
            client
        })
    };
    Ok(Flow { guest, last, state, task })
}

/// Forgets the client that was silent longest.
fn make_room(flows: &mut HashMap<Client, Flow>) {
    let longest = flows.iter().min_by_key(|(_, flow)| flow.last.get()).map(|(client, _)| *client);
    if let Some(flow) = longest.and_then(|client| flows.remove(&client)) {
        flow.task.abort();
    }
}

async fn towards(target: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Sends a client what the guest answers, until both are silent for long.
async fn answer(port: &Port, client: Client, guest: &UdpSocket, last: &Cell<Instant>, state: &Cell<State>) {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let silence = if state.get() == State::Stream { SILENCE_OF_STREAM } else { SILENCE };
        let left = (last.get() + silence).saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match timeout(left, guest.recv(&mut datagram)).await {
            Ok(Ok(length)) => {
                last.set(Instant::now());
                if state.get() == State::Asked {
                    state.set(State::Answered);
                }
                port.send(client, &datagram[..length]).await;
            }
            // The guest had nobody there for the last one.
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) => return,
            Err(_) => {} // it may have asked again meanwhile
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::listen;
    use hypeman_record::network::Protocol;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }

    /// A relay from all addresses of the host to a socket in place of a guest's: its port, and that
    /// socket.
    async fn relay(most: usize, report: Rc<Report>) -> (u16, UdpSocket) {
        let guest = UdpSocket::bind("127.0.0.9:0").await.unwrap();
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let socket = listen(any, Protocol::Udp).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        tokio::task::spawn_local(exchange(socket, guest.local_addr().unwrap(), most, report));
        (port, guest)
    }

    async fn echo(guest: &UdpSocket) {
        let mut bytes = [0; 16];
        let (length, from) = guest.recv_from(&mut bytes).await.unwrap();
        guest.send_to(&bytes[..length], from).await.unwrap();
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        run(async {
            let (port, guest) = relay(8, Rc::default()).await;
            for address in ["127.0.0.1", "127.0.0.5"] {
                let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                client.send_to(b"word", (address, port)).await.unwrap();
                echo(&guest).await;
                let mut bytes = [0; 16];
                let (length, from) = client.recv_from(&mut bytes).await.unwrap();
                assert_eq!((&bytes[..length], from.to_string()), (&b"word"[..], format!("{address}:{port}")));
            }
        });
    }

    #[test]
    fn clients_that_come_once_shut_nobody_out() {
        run(async {
            let said = Rc::new(Cell::new(0));
            let heard = said.clone();
            let (port, guest) = relay(4, Rc::new(Report::new(move |_| heard.set(heard.get() + 1)))).await;
            for _ in 0..20 {
                let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                client.connect(("127.0.0.1", port)).await.unwrap();
                client.send(b"word").await.unwrap();
                echo(&guest).await;
                client.recv(&mut [0; 16]).await.unwrap();
            }
            assert_eq!(said.get(), 1, "it is told, and not each time");
        });
    }
}
