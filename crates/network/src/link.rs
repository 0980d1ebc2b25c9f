//! Network devices of the kernel, by rtnetlink(7): bridges, their ports, addresses, routes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt};
use hypeman_files::AtPath;
use hypeman_record::network::Network;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkIfb, LinkUnspec, RouteMessageBuilder};

use crate::error::{Doing, Error, Result};
use crate::netlink::netlink;
use crate::owner::Owner;
use crate::resolver;

/// The group of our bridges (ip-link(8)), by which rules know all of them.
pub(crate) const GROUP: u32 = 0x6879;

/// Where the kernel's parameters of this network namespace are.
const PARAMETERS: &str = "/proc/sys/net";

/// MTU for networks when no interface leads outside.
const USUAL_MTU: u32 = 1500;

/// Addresses and names of a host that a new network must avoid.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) interfaces: Vec<String>,
    /// Nets that the host is on, and its servers' addresses.
    pub(crate) taken: Vec<Ipv4Net>,
    /// Of the interface with the default route.
    pub(crate) mtu: u32,
}

/// Whether one has addresses of the other.
pub(crate) fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// A route of IPv4.
struct Route {
    /// `None` is everywhere.
    to: Option<Ipv4Net>,
    /// The interface.
    out: Option<u32>,
    /// Whether the host is on that net itself. A route by a gateway, as those of a VPN to half the
    /// world, says nothing of whether addresses below it are free, and a network's own is more
    /// specific (as docker has it: `InferReservedNetworks` in libnetwork/netutils/utils_linux.go).
    is_own_link: bool,
}

async fn routes(handle: &Handle) -> Result<Vec<Route>> {
    let all = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    let all: Vec<RouteMessage> = all.try_collect().await.doing(|| "list the routes".to_owned())?;
    Ok(all.iter().map(route).collect())
}

fn route(message: &RouteMessage) -> Route {
    let header = &message.header;
    let is_own_link = header.scope == RouteScope::Link && header.kind == RouteType::Unicast;
    let mut route = Route { to: None, out: None, is_own_link };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                let net = Ipv4Net::new(*address, message.header.destination_prefix_length);
                route.to = net.ok().map(|net| net.trunc());
            }
            RouteAttribute::Oif(index) => route.out = Some(*index),
            _ => {}
        }
    }
    route
}

/// Looks at the host.
pub(crate) fn host() -> Result<Host> {
    netlink(async |handle| {
        let links: Vec<LinkMessage> =
            handle.link().get().execute().try_collect().await.doing(|| "list the interfaces".to_owned())?;
        let routes = routes(&handle).await?;
        let outbound = routes.iter().find(|route| route.to.is_none()).and_then(|route| route.out);
        let outbound = links.iter().find(|link| Some(link.header.index) == outbound);
        Ok(Host {
            interfaces: links.iter().filter_map(name_of).collect(),
            taken: taken(&routes),
            mtu: outbound.and_then(mtu_of).unwrap_or(USUAL_MTU).min(USUAL_MTU),
        })
    })
}

/// Addresses that a network's must not overlap with.
fn taken(routes: &[Route]) -> Vec<Ipv4Net> {
    let servers = resolver::of_host().servers.into_iter().filter_map(|server| match server {
        IpAddr::V4(server) => Some(Ipv4Net::from(server)),
        IpAddr::V6(_) => None,
    });
    routes.iter().filter(|route| route.is_own_link).filter_map(|route| route.to).chain(servers).collect()
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

/// The interface of this name, if there is one.
pub(crate) async fn find(handle: &Handle, name: &str) -> Option<LinkMessage> {
    let found = handle.link().get().match_name(name.to_owned()).execute();
    std::pin::pin!(found).next().await?.ok()
}

/// Has the kernel have a network's bridge, with its address; whatever of it there is already.
pub(crate) async fn ensure_bridge(handle: &Handle, network: &Network, owner: &Owner) -> Result<u32> {
    let name = &network.bridge;
    let found = match find(handle, name).await {
        Some(link) => link,
        None => make_bridge(handle, network, owner).await?,
    };
    refuse_other_owner(&found, network, owner)?;
    let index = found.header.index;
    // A bridge of a release before owners stood on them is taken for ours.
    let alias = LinkAttribute::IfAlias(owner.to_string());
    let up = LinkUnspec::new_with_index(index).up().link_group(GROUP).append_extra_attribute(alias).build();
    handle.link().set(up).execute().await.doing(|| format!("bring {name} up"))?;
    let gateway = IpAddr::V4(network.gateway());
    let address = handle.address().add(index, gateway, network.subnet.prefix_len()).replace();
    address.execute().await.doing(|| format!("give {name} the address {gateway}"))?;
    // Nothing of ours is IPv6, and a link-local address of the host's would be one more that guests
    // could try.
    let _ = set_parameter(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
    set_parameter("ipv4/ip_forward", "1")?;
    Ok(index)
}

async fn make_bridge(handle: &Handle, network: &Network, owner: &Owner) -> Result<LinkMessage> {
    let name = &network.bridge;
    refuse_clash(handle, network).await?;
    // An address of its own: else it takes that of its first port, and has another when that goes.
    let [a, b, c, d] = network.gateway().octets();
    let mac = vec![0x02, 0x00, a, b, c, d];
    let alias = LinkAttribute::IfAlias(owner.to_string());
    let bridge = LinkBridge::new(name).mtu(network.mtu).address(mac).append_extra_attribute(alias).build();
    match handle.link().add(bridge).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {}
        made => made.doing(|| format!("make the bridge {name}"))?,
    }
    let made = find(handle, name).await;
    made.ok_or_else(|| Error::Unable(format!("the bridge {name} was removed as soon as it was made")))
}

/// Another data directory may have a network by the same bridge: both were made while the other's
/// was not there.
fn refuse_other_owner(link: &LinkMessage, network: &Network, owner: &Owner) -> Result<()> {
    match alias_of(link).filter(|alias| owner.is_another(alias)) {
        None => Ok(()),
        Some(other) => {
            Err(Error::Foreign { network: network.name.clone(), bridge: network.bridge.clone(), other })
        }
    }
}

/// The names of all interfaces.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn names() -> Result<Vec<String>> {
    netlink(async |handle| {
        let links = handle.link().get().execute().try_collect::<Vec<LinkMessage>>().await;
        Ok(links.doing(|| "list the interfaces".to_owned())?.iter().filter_map(name_of).collect())
    })
}

/// Whether a network's bridge is there and another's.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn is_foreign(network: &Network, owner: &Owner) -> Result<bool> {
    netlink(async |handle| {
        let found = find(&handle, &network.bridge).await;
        Ok(found.is_some_and(|link| refuse_other_owner(&link, network, owner).is_err()))
    })
}

fn alias_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) if !alias.is_empty() => Some(alias.clone()),
        _ => None,
    })
}

/// A network whose addresses another way leads to by now would cut that off.
async fn refuse_clash(handle: &Handle, network: &Network) -> Result<()> {
    let taken = taken(&routes(handle).await?);
    match taken.into_iter().find(|taken| overlap(*taken, network.subnet)) {
        None => Ok(()),
        Some(route) => Err(Error::Clash {
            network: network.name.clone(),
            subnet: network.subnet.to_string(),
            route: route.to_string(),
        }),
    }
}

/// Makes an interface a port of a bridge, and brings it up.
pub(crate) async fn enslave(handle: &Handle, tap: &str, bridge: u32, network: &Network) -> Result<u32> {
    let _ = set_parameter(&format!("ipv6/conf/{tap}/disable_ipv6"), "1");
    let doing = || format!("put {tap} on {}", network.bridge);
    let port = LinkUnspec::new_with_name(tap).controller(bridge).mtu(network.mtu).up().build();
    handle.link().set(port).execute().await.doing(doing)?;
    let found = find(handle, tap).await.ok_or_else(|| Error::Unable(format!("{tap} has gone")))?;
    let isolated = LinkBridgePort::new(found.header.index).isolated(network.isolated).build();
    handle.link().set_port(isolated).execute().await.doing(doing)?;
    Ok(found.header.index)
}

/// Makes an interface through which packets can be led to be queued.
pub(crate) async fn make_ifb(handle: &Handle, name: &str) -> Result<u32> {
    remove(handle, name).await?;
    let doing = || format!("make {name}");
    handle.link().add(LinkIfb::new(name).up().build()).execute().await.doing(doing)?;
    let made = find(handle, name).await.map(|link| link.header.index);
    made.ok_or_else(|| Error::Unable(format!("{name} was removed as soon as it was made")))
}

/// Removes an interface, if it is there.
pub(crate) async fn remove(handle: &Handle, name: &str) -> Result<()> {
    let Some(link) = find(handle, name).await else { return Ok(()) };
    match handle.link().del(link.header.index).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(()),
        removed => removed.doing(|| format!("remove {name}")),
    }
}

/// Sets a parameter of the kernel's that has another value.
fn set_parameter(name: &str, value: &str) -> Result<()> {
    let path = Path::new(PARAMETERS).join(name);
    let now = std::fs::read_to_string(&path).at(&path)?;
    if now.trim() != value {
        std::fs::write(&path, value).at(&path)?;
    }
    Ok(())
}

/// Traffic over an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes to the guest.
    pub inbound: u64,
    /// Bytes from the guest.
    pub outbound: u64,
}

/// Returns the traffic over each of these TAPs since it was made; `None` where there is none.
///
/// # Errors
/// When the kernel does not tell.
pub fn traffic(taps: &[String]) -> Result<Vec<Option<Traffic>>> {
    netlink(async |handle| {
        let mut all = Vec::new();
        for tap in taps {
            all.push(find(&handle, tap).await.as_ref().and_then(traffic_of));
        }
        Ok(all)
    })
}

fn traffic_of(link: &LinkMessage) -> Option<Traffic> {
    link.attributes.iter().find_map(|attribute| match attribute {
        // The host receives what the guest sends.
        LinkAttribute::Stats64(stats) => Some(Traffic { inbound: stats.tx_bytes, outbound: stats.rx_bytes }),
        _ => None,
    })
}
