//! Flows that the kernel tracks (nf_conntrack). One is led where it was led first, whatever rules
//! say by now: a client that keeps sending would reach the VM that had a port or an address before,
//! or the VM that has its address now. So they are forgotten when a port or an address becomes
//! somebody else's.

use std::net::{IpAddr, Ipv4Addr};

use hypeman_record::network::{self, Published};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// A flow: the first packet's addresses and ports, and where its answers come from.
#[derive(Debug, Clone)]
struct Flow {
    is_udp: bool,
    from: Ipv4Addr,
    to: (Ipv4Addr, u16),
    answered_by: Ipv4Addr,
    /// The kernel's name for it.
    tuple: Vec<Tuple>,
}

/// Forgets all flows from and to an address that is given to a new owner, or given up. Where flows
/// cannot be had, there are none.
pub fn forget_address(address: Ipv4Addr) {
    let _ = forget(|flow| flow.from == address || flow.answered_by == address);
}

/// Forgets the flows of clients of published UDP ports that lead elsewhere than to `guest`.
pub(crate) fn forget_others(published: &[Published], guest: Ipv4Addr) {
    forget_ports(published, |flow| flow.answered_by != guest);
}

/// Forgets the flows of clients of published UDP ports that lead to `guest`.
pub(crate) fn forget_own(published: &[Published], guest: Ipv4Addr) {
    forget_ports(published, |flow| flow.answered_by == guest);
}

fn forget_ports(published: &[Published], is_meant: impl Fn(&Flow) -> bool) {
    let udp: Vec<_> =
        published.iter().filter(|published| published.protocol == network::Protocol::Udp).collect();
    if udp.is_empty() {
        return; // TCP's clients notice, and connect anew
    }
    let is_port = |flow: &Flow| {
        udp.iter().any(|published| {
            let is_address = match published.address {
                Some(IpAddr::V4(address)) if !address.is_unspecified() => address == flow.to.0,
                _ => true,
            };
            is_address && published.host == Some(flow.to.1)
        })
    };
    let _ = forget(|flow| flow.is_udp && is_port(flow) && is_meant(flow));
}

fn forget(is_meant: impl Fn(&Flow) -> bool) -> std::io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let flows = ask(&socket, ConntrackMessage::Get(Vec::new()), NLM_F_DUMP)?;
    for flow in flows.into_iter().filter(is_meant) {
        let tuple = vec![ConntrackAttribute::CtaTupleOrig(flow.tuple)];
        ask(&socket, ConntrackMessage::Delete(tuple), NLM_F_ACK)?;
    }
    Ok(())
}

/// Asks the kernel, and reads its answers to the last: flows, an acknowledgement, or that there is
/// no such flow any more.
fn ask(socket: &Socket, message: ConntrackMessage, flags: u16) -> std::io::Result<Vec<Flow>> {
    let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
    let mut request = NetlinkMessage::from(NetfilterMessage::new(header, message));
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut flows = Vec::new();
    loop {
        let (answers, _) = socket.recv_from_full()?;
        let mut rest = &answers[..];
        while !rest.is_empty() {
            let answer =
                NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(std::io::Error::other)?;
            let length = (answer.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
            match answer.payload {
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(flows),
                NetlinkPayload::InnerMessage(message) => flows.extend(flow(message)),
                _ => {}
            }
        }
    }
}

fn flow(message: NetfilterMessage) -> Option<Flow> {
    let netlink_packet_netfilter::NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) =
        message.inner
    else {
        return None;
    };
    let (mut original, mut reply) = (None, None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = Some(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = Some(tuple),
            _ => {}
        }
    }
    let (original, reply) = (original?, reply?);
    let (mut from, mut to, mut port, mut is_udp) = (None, None, 0, false);
    for part in &original {
        match part {
            Tuple::Ip(parts) => {
                for part in parts {
                    match part {
                        IPTuple::SourceAddress(IpAddr::V4(address)) => from = Some(*address),
                        IPTuple::DestinationAddress(IpAddr::V4(address)) => to = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(protocol) => is_udp = *protocol == Protocol::Udp,
                        ProtoTuple::DestinationPort(number) => port = *number,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let answered_by = reply.iter().find_map(|part| match part {
        Tuple::Ip(parts) => parts.iter().find_map(|part| match part {
            IPTuple::SourceAddress(IpAddr::V4(address)) => Some(*address),
            _ => None,
        }),
        _ => None,
    })?;
    Some(Flow { is_udp, from: from?, to: (to?, port), answered_by, tuple: original })
}
