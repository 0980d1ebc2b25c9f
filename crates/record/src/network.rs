//! How a VM is connected: what a user asks for, the lease of an address, and what both came to for
//! one start.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::format::{Envelope, Versioned};
use crate::guest::config::GuestNetwork;

/// The network of those who name none.
pub const DEFAULT: &str = "default";

/// The way in which a VM reaches others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// None.
    #[default]
    None,
    /// By a process with the user's own privileges (passt).
    User,
    /// By the bridge of a network, by its name.
    Bridge(String),
}

impl fmt::Display for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Connection::None => "none",
            Connection::User => "user",
            Connection::Bridge(network) => network,
        })
    }
}

/// A transport whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        match text {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(format!("{text:?} is no protocol whose ports can be published; there are tcp and udp")),
        }
    }
}

/// A port of a guest's that can be reached on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The host's address; `None` is each that it has, of IPv4 and IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The host's port; `None` is one that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<u16>,
    /// The last of the host's ports, of which the first that is free is taken; `None` is `host`
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_to: Option<u16>,
    /// The guest's.
    pub guest: u16,
    /// Of this transport.
    pub protocol: Protocol,
}

impl fmt::Display for Published {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(formatter, "0.0.0.0:")?,
            Some(IpAddr::V4(address)) => write!(formatter, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(formatter, "[{address}]:")?,
        }
        match self.host {
            Some(host) => write!(formatter, "{host}")?,
            None => write!(formatter, "?")?,
        }
        if let Some(last) = self.host_to {
            write!(formatter, "-{last}")?;
        }
        write!(formatter, "->{}/{}", self.guest, self.protocol)
    }
}

/// The most that goes in and out, in bytes a second; what is `None` is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// To the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<u64>,
    /// From the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<u64>,
}

/// Network settings of a VM, as the user gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSettings {
    /// Connection to the outside.
    pub connection: Connection,
    /// Ports that can be reached on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Limits.
    #[serde(default)]
    pub rates: Rates,
    /// DNS servers; empty is the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked up; empty is the host's, and `.` is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Options of resolv.conf(5); empty is the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_options: Vec<String>,
    /// Names that the guest is to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostName>,
}

/// A name that a guest is to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostName {
    /// The name.
    pub name: String,
    /// Its address; `None` is the host's on the guest's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl FromStr for HostName {
    type Err = String;

    /// Reads docker's `NAME:IP`, `NAME=IP` and `NAME:host-gateway`.
    fn from_str(text: &str) -> Result<HostName, String> {
        let (name, address) =
            text.split_once('=').or_else(|| text.split_once(':')).ok_or("it has to be NAME:IP")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > 253 || !name.chars().all(allowed) {
            return Err(format!("{name:?} is no host name"));
        }
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        let address = match bare {
            "host-gateway" => None,
            bare => Some(bare.parse().map_err(|_| format!("{bare:?} is no address, nor host-gateway"))?),
        };
        Ok(HostName { name: name.to_owned(), address })
    }
}

/// The address of an instance on a network, `lease.json`. It has it as long as there is the
/// instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network: String,
    /// The address there.
    pub address: Ipv4Addr,
    /// Of the guest's interface, as `02:00:00:12:34:56`.
    pub mac: String,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Versioned for Lease {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// Resolved network configuration of a VM for one start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Configuration that the guest receives.
    pub guest: GuestNetwork,
    /// The VM's TAP on a bridge; `None` with passt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<BridgePort>,
    /// Ports that can be reached on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// DNS servers to which the host forwards; the guest may have the host itself as its server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

/// A VM's end on a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    /// The network.
    pub network: String,
    /// Its bridge.
    pub bridge: String,
    /// The TAP that the VMM has.
    pub tap: String,
    /// Limits.
    pub rates: Rates,
}

/// Prefixes of the interfaces of VMs: their TAPs, and those at which outgoing packets wait.
const TAP: &str = "hype-";
const IFB: &str = "hypi-";

impl BridgePort {
    /// The name of an instance's TAP: a prefix and the first ten digits of its id, which the 15
    /// characters of an interface's name have room for.
    #[must_use]
    pub fn tap_of(id: &str) -> String {
        format!("{TAP}{}", id.get(..10).unwrap_or(id))
    }

    /// The name of the interface at which what comes from a TAP waits, where that is limited.
    #[must_use]
    pub fn ifb_of(tap: &str) -> String {
        tap.replacen(TAP, IFB, 1)
    }
}

/// A TAP and its rules, `attached.json`. Written before they are made, so that a later command can
/// remove them when there is no VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The end.
    pub port: BridgePort,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The guest's MAC.
    pub mac: String,
    /// Published ports, each with the host port that was found.
    pub published: Vec<Published>,
    /// The instance's name, by which other VMs of the network know it.
    pub name: String,
    /// DNS servers for names outside of the network; empty means the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Versioned for Attached {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The interface.
    pub bridge: String,
    /// Its addresses, of which the first is the host's.
    pub subnet: Ipv4Net,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether the VMs cannot reach each other.
    pub isolated: bool,
    /// Whether the host answered questions for names when the network was made: what releases
    /// before this one go by.
    pub serves_names: bool,
    /// Ports of the host's own that the VMs may reach.
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
    /// Whether it was made because an instance named it, and goes with the last one of those that
    /// remove themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made_by_use: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Format and release, and what a newer one has added.
    #[serde(flatten)]
    pub envelope: Envelope,
}

impl Versioned for Network {
    const FORMAT: u32 = 1;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

impl Network {
    /// The host's address.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + 1)
    }
}

/// A port of the host's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.port, self.protocol)
    }
}
