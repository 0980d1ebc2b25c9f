//! The rules of a network, in tables of its own that are called as its bridge. Other people's
//! tables are neither read nor changed.
//!
//! A packet of a guest's has to pass, in this order: its own chain at its TAP (`netdev`), which
//! lets through what has its MAC and its address; the bridge, on which isolated ports do not see
//! each other; and `forward` or `input`, which tell what it may reach.

use std::fmt::Write;
use std::net::IpAddr;

use hypeman_record::network::{Attached, BridgePort, Network, Published};

use crate::link::GROUP;

/// Where questions for names are answered.
const DNS: u16 = 53;

/// All rules of a network, in place of those that there are, and the own ones of these VMs.
pub(crate) fn all(network: &Network, attached: &[Attached]) -> String {
    let mut text = remove(network);
    base(&mut text, network);
    attached.iter().for_each(|attached| text.push_str(&add(network, attached)));
    text
}

/// Removes all that a network has; none of it need be there.
pub(crate) fn remove(network: &Network) -> String {
    let bridge = &network.bridge;
    let table = |family| format!("add table {family} {bridge}\ndelete table {family} {bridge}\n");
    ["inet", "netdev"].map(table).concat()
}

fn base(text: &mut String, network: &Network) {
    let Network { bridge, subnet, .. } = network;
    let allowed = allowed(network);
    let between = if network.isolated { "drop" } else { "accept" };
    let dnat = "dnat ip to ip daddr . meta l4proto . th dport map @published_at\n\
                \t\tfib daddr type local dnat ip to meta l4proto . th dport map @published";
    let _ = write!(
        text,
        "\
table netdev {bridge} {{
}}
table inet {bridge} {{
	# protocol . the host's port : the guest's address . port
	map published {{
		type inet_proto . inet_service : ipv4_addr . inet_service
	}}
	map published_at {{
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}}
	# The host's loopback addresses are nobody's on the wire, whatever route_localnet says.
	chain outside {{
		type filter hook prerouting priority raw; policy accept;
		iifname != \"lo\" ip daddr 127.0.0.0/8 drop
	}}
	chain arriving {{
		type nat hook prerouting priority dstnat; policy accept;
		meta iifgroup {GROUP} return
		fib daddr type local {dnat}
	}}
	chain own {{
		type nat hook output priority -100; policy accept;
		# What goes to the loopback address cannot leave by another interface; hypeman listens there.
		ip daddr 127.0.0.0/8 return
		fib daddr type local {dnat}
	}}
	chain leaving {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {subnet} oifname != \"{bridge}\" masquerade
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname \"{bridge}\" oifname \"{bridge}\" {between}
		iifname \"{bridge}\" meta oifgroup {GROUP} drop
		iifname \"{bridge}\" ip daddr {{ 127.0.0.0/8, 169.254.0.0/16 }} drop
		iifname \"{bridge}\" meta nfproto ipv4 accept
		iifname \"{bridge}\" drop
		oifname \"{bridge}\" ct state established,related accept
		oifname \"{bridge}\" ct status dnat accept
		oifname \"{bridge}\" drop
	}}
	chain input {{
		type filter hook input priority filter; policy accept;
		iifname != {{ \"{bridge}\", \"lo\" }} ip daddr {} meta l4proto {{ tcp, udp }} th dport {DNS} drop
		iifname != \"{bridge}\" accept
		ct state established,related accept
		ip daddr {} icmp type echo-request accept
{allowed}		drop
	}}
}}
",
        network.gateway(),
        network.gateway()
    );
}

/// The host's own ports that guests may reach.
fn allowed(network: &Network) -> String {
    let gateway = network.gateway();
    let names =
        ["udp", "tcp"].map(|protocol| format!("\t\tip daddr {gateway} {protocol} dport {DNS} accept\n"));
    // Whether somebody answers there is decided at each start.
    network.host_ports.iter().fold(names.concat(), |mut text, allowed| {
        let _ = writeln!(text, "\t\t{} dport {} accept", allowed.protocol, allowed.port);
        text
    })
}

/// The own rules of a VM, whose TAP is there. They do not fit in where there are such already: to
/// remove a chain of a device's takes the kernel a grace period of RCU, some 15 ms, which is not
/// spent here for what is there hardly ever.
pub(crate) fn add(network: &Network, attached: &Attached) -> String {
    let bridge = &network.bridge;
    let Attached { port, address, mac, published, .. } = attached;
    let tap = &port.tap;
    let pass = match port.rates.outbound {
        Some(_) => format!("fwd to \"{}\"", BridgePort::ifb_of(tap)), // where it waits, and comes back to the bridge
        None => "accept".to_owned(),
    };
    let mut text = format!(
        "\
create chain netdev {bridge} {tap} {{ type filter hook ingress device \"{tap}\" priority 0; policy drop; }}
add rule netdev {bridge} {tap} ether saddr {mac} ip saddr {address} {pass}
add rule netdev {bridge} {tap} ether saddr {mac} arp saddr ether {mac} arp saddr ip {address} accept
"
    );
    for published in published {
        if let Some((map, key)) = key(published) {
            let _ = writeln!(
                text,
                "add element inet {bridge} {map} {{ {key} : {address} . {} }}",
                published.guest
            );
        }
    }
    text
}

/// Removes the own rules of a VM; none of them need be there.
pub(crate) fn delete(network: &Network, attached: &Attached) -> String {
    let bridge = &network.bridge;
    let mut text = remove_chain(network, &attached.port.tap);
    for published in &attached.published {
        if let Some((map, key)) = key(published) {
            let element =
                format!("inet {bridge} {map} {{ {key} : {} . {} }}", attached.address, published.guest);
            let _ = writeln!(text, "add element {element}\ndelete element {element}");
        }
    }
    text
}

fn remove_chain(network: &Network, tap: &str) -> String {
    let chain = format!("chain netdev {} {tap}", network.bridge);
    format!("add {chain}\nflush {chain}\ndelete {chain}\n")
}

/// Where a published port stands; `None` for one of IPv6, whose packets cannot be given an address
/// of IPv4.
fn key(published: &Published) -> Option<(&'static str, String)> {
    let host = published.host?;
    match published.address {
        None => Some(("published", format!("{} . {host}", published.protocol))),
        Some(IpAddr::V4(address)) if address.is_unspecified() => {
            Some(("published", format!("{} . {host}", published.protocol)))
        }
        Some(IpAddr::V4(address)) => {
            Some(("published_at", format!("{address} . {} . {host}", published.protocol)))
        }
        Some(IpAddr::V6(_)) => None,
    }
}
