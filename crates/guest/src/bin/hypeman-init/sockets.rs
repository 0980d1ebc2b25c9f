//! Ends the TCP connections of an address that the guest has no more (sock_diag(7), `SOCK_DESTROY`
//! of linux/sock_diag.h): their programs hear of it at once, and connect anew. Without it, one that
//! waits for an answer waits for ever.

use std::net::Ipv4Addr;

use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{Socket, SocketAddr};

/// Message types and flags (linux/sock_diag.h, linux/netlink.h).
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

/// `AF_INET` and `AF_INET6`: sockets of the latter have connections of IPv4 too.
const FAMILIES: [u8; 2] = [2, 10];
const TCP: u8 = 6;

/// All states of a connection but LISTEN and CLOSE (`enum` of include/net/tcp_states.h).
const CONNECTED: u32 = 0xfff & !(1 << 7) & !(1 << 10);

/// Lengths of a message's head, of `struct inet_diag_sockid`, and of what stands before it in an
/// answer.
const HEAD: usize = 16;
const ID: usize = 48;
const BEFORE_ID: usize = 4;

/// Ends the connections from these addresses; how many. A kernel that cannot leaves them as they
/// are.
pub(crate) fn end_connections(addresses: &[Ipv4Addr]) -> std::io::Result<usize> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut ended = 0;
    for family in FAMILIES {
        for id in connections(&socket, family)? {
            if local_address(&id, family).is_some_and(|address| addresses.contains(&address)) {
                socket.send(&request(DESTROY, REQUEST | ACK, family, &id), 0)?;
                let (answer, _) = socket.recv_from_full()?;
                ended += usize::from(is_done(&answer));
            }
        }
    }
    Ok(ended)
}

/// The ids of all connections.
fn connections(socket: &Socket, family: u8) -> std::io::Result<Vec<[u8; ID]>> {
    socket.send(&request(BY_FAMILY, REQUEST | DUMP, family, &[0; ID]), 0)?;
    let mut ids = Vec::new();
    loop {
        let (answers, _) = socket.recv_from_full()?;
        let mut rest = &answers[..];
        while let Some(length) = word(rest, 0).and_then(|length| usize::try_from(length).ok()) {
            match half(rest, 4) {
                Some(DONE | ERROR) | None => return Ok(ids),
                Some(_) => {}
            }
            let id = rest.get(HEAD + BEFORE_ID..HEAD + BEFORE_ID + ID);
            ids.extend(id.and_then(|id| <[u8; ID]>::try_from(id).ok()));
            rest = rest.get(length.next_multiple_of(4).max(HEAD)..).unwrap_or_default();
        }
    }
}

/// A request about a socket: `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(HEAD + 8 + ID).unwrap_or(0).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // no number of its own: one is asked after the other
    bytes.extend([family, TCP, 0, 0]);
    bytes.extend(CONNECTED.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The local address in an id, which begins with the two ports; one of IPv6 may have one of IPv4 in
/// it.
fn local_address(id: &[u8; ID], family: u8) -> Option<Ipv4Addr> {
    let address: [u8; 16] = id[4..20].try_into().ok()?;
    match family {
        2 => Some(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
        _ => std::net::Ipv6Addr::from(address).to_ipv4_mapped(),
    }
}

/// Whether an answer is an acknowledgement: an error of number 0.
fn is_done(answer: &[u8]) -> bool {
    half(answer, 4) == Some(ERROR) && word(answer, HEAD) == Some(0)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_of_an_address_are_ended_and_no_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let gone = Ipv4Addr::new(127, 0, 77, 7);
        let connect = |from: Ipv4Addr| {
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                    .unwrap();
            rustix::net::bind(&socket, &std::net::SocketAddr::from((from, 0))).unwrap();
            rustix::net::connect(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            TcpStream::from(socket)
        };
        let (mut ours, others) = (connect(gone), connect(Ipv4Addr::new(127, 0, 77, 8)));
        match end_connections(&[gone]) {
            Ok(1..) => {}
            refused => return eprintln!("SKIPPED: this kernel or user ends no connections: {refused:?}"),
        }
        assert!(ours.read(&mut [0; 1]).is_err(), "whoever waits for an answer hears of it");
        assert!(
            others.set_nonblocking(true).is_ok()
                && others.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
        );
    }
}
