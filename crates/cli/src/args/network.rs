//! The flags and commands of networks.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use hypeman_record::network::{HostName, HostPort};
use ipnet::Ipv4Net;

use super::FormatArgument;
use crate::size;

#[derive(Debug, Args)]
pub(crate) struct NetworkArguments {
    /// Network: default, a name (created if missing), user (no privileges needed) or none [default:
    /// default as root, user for other users, none for a kernel without an image]
    #[arg(long, alias = "net", value_name = "NAME", env = "HYPEMAN_NETWORK")]
    pub(crate) network: Option<String>,
    /// Publish a port of the guest on the host
    #[arg(short, long, value_name = "[[IP:]HOST:]GUEST[/tcp|udp]")]
    pub(crate) publish: Vec<String>,
    /// Publish all ports that the image exposes on free ports of the host
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// DNS server of the guest [default: the host's]
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<IpAddr>,
    /// DNS search domain, `.` for none [default: the host's]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option for the guest's resolv.conf [default: the host's]
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Add a host name to the guest; host-gateway is the host's address
    #[arg(long, value_name = "NAME:IP")]
    pub(crate) add_host: Vec<HostName>,
    /// Maximum rate to the guest in bytes a second
    #[arg(long, value_parser = size::parse, value_name = "SIZE", visible_alias = "bandwidth-down")]
    pub(crate) network_rate_in: Option<u64>,
    /// Maximum rate from the guest in bytes a second
    #[arg(long, value_parser = size::parse, value_name = "SIZE", visible_alias = "bandwidth-up")]
    pub(crate) network_rate_out: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Create a network, as `run --network NAME` does when it is missing
    Create {
        /// Subnet [default: the first of 10.100.0.0/16, 10.101.0.0/16 ... that is free]
        #[arg(long, value_name = "CIDR")]
        subnet: Option<Ipv4Net>,
        /// Name of the bridge [default: the first of hypeman0, hypeman1 ... that is free]
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
        /// MTU in bytes [default: that of the host's default route, at most 1500]
        #[arg(long, value_name = "BYTES")]
        mtu: Option<u32>,
        /// Port of the host that VMs may reach
        #[arg(long, value_name = "PORT[/tcp|udp]", value_parser = host_port)]
        allow_host_port: Vec<HostPort>,
        name: String,
    },
    /// List networks
    Ls {
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print details of networks as JSON
    Inspect {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove networks
    Rm {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Restore bridges, addresses and rules of networks
    Repair {
        /// Names [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

fn host_port(text: &str) -> Result<HostPort, String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port = port.parse().ok().filter(|port| *port > 0);
    Ok(HostPort { port: port.ok_or("a port is 1 to 65535")?, protocol: protocol.parse()? })
}
