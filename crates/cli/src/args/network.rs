//! The flags and commands of networks.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use hypeman_record::network::{HostName, HostPort};
use ipnet::Ipv4Net;

use super::FormatArgument;
use crate::size;

#[derive(Debug, Args)]
pub(crate) struct NetworkArguments {
    /// Network: default, another by its name (made if there is none), user (without privileges), or none [default: default as root, user
    /// for others, none for a kernel without an image]
    #[arg(long, alias = "net", value_name = "NAME", env = "HYPEMAN_NETWORK")]
    pub(crate) network: Option<String>,
    /// Let a port of the guest's be reached on the host
    #[arg(short, long, value_name = "[[IP:]HOST:]GUEST[/tcp|udp]")]
    pub(crate) publish: Vec<String>,
    /// Publish all ports that the image exposes, on ports of the host's that are free
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// DNS server of the guest [default: the host's]
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<IpAddr>,
    /// Domain in which the guest looks up short names, `.` for none [default: the host's]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the guest's resolv.conf [default: the host's]
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Name that the guest is to know; host-gateway is the host's address
    #[arg(long, value_name = "NAME:IP")]
    pub(crate) add_host: Vec<HostName>,
    /// Most bytes in a second to the guest
    #[arg(long, value_parser = size::parse, value_name = "SIZE", visible_alias = "bandwidth-down")]
    pub(crate) network_rate_in: Option<u64>,
    /// Most bytes in a second from the guest
    #[arg(long, value_parser = size::parse, value_name = "SIZE", visible_alias = "bandwidth-up")]
    pub(crate) network_rate_out: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network; `run --network NAME` does so too, when there is none
    Create {
        /// Its addresses [default: the first of 10.100.0.0/16, 10.101.0.0/16 ... that no route of the host has]
        #[arg(long, value_name = "CIDR")]
        subnet: Option<Ipv4Net>,
        /// Its interface [default: the first of hypeman0, hypeman1 ... that is free]
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
        /// Largest packet in bytes [default: that of the host's way out, at most 1500]
        #[arg(long, value_name = "BYTES")]
        mtu: Option<u32>,
        /// A port of the host's own that VMs may reach
        #[arg(long, value_name = "PORT[/tcp|udp]", value_parser = host_port)]
        allow_host_port: Vec<HostPort>,
        name: String,
    },
    /// List networks
    Ls {
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print all that is known of networks, as JSON
    Inspect {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove networks that no instance is on
    Rm {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Put back what somebody has removed of networks: bridges, addresses, rules
    Repair {
        /// Of these [default: of all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

fn host_port(text: &str) -> Result<HostPort, String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port = port.parse().ok().filter(|port| *port > 0);
    Ok(HostPort { port: port.ok_or("a port is 1 to 65535")?, protocol: protocol.parse()? })
}
