//! The guest's network: its one interface, and where names are looked up.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use hypeman_record::guest::config::{GuestNetwork, Mode};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::sockets;

/// Where systemd looks for what it is to know until the next boot: of interfaces
/// (systemd.network(5)), before all that the image has, and of names (resolved.conf(5)).
const NETWORKD: &str = "/run/systemd/network/00-hypeman.network";
const UDEV: &str = "/run/systemd/network/00-hypeman.link";
const RESOLVED: &str = "/run/systemd/resolved.conf.d/hypeman.conf";

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The words with which our lines there begin.
const OURS: [&str; 3] = ["nameserver ", "search ", "options "];

/// Where systemd-resolved keeps its own, to which an image may have a link.
const OF_RESOLVED: &str = "/run/systemd/resolve";

/// Gives the guest its network at boot. A kernel that cannot have one does without, and says so.
pub(crate) fn bring_up(network: &GuestNetwork, mode: Mode) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let configured = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(configure(network)) // process 1 has no other one yet
    });
    if let Err(error) = configured {
        eprintln!("hypeman-init: no network: {error}");
    }
    if mode == Mode::Systemd {
        write(NETWORKD, &networkd(network));
        // One that is up udev cannot rename (systemd.link(5)), but says that it is about to, and
        // networkd waits for it.
        write(UDEV, &format!("[Match]\nMACAddress={}\n\n[Link]\nNamePolicy=\n", network.mac));
        let servers: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
        let domains = network.search.join(" ");
        write(RESOLVED, &format!("[Resolve]\nDNS={}\nDomains={domains}\n", servers.join(" ")));
    }
    name_servers(network, mode);
}

/// Gives the interface of a guest that runs this address, and no other.
pub(crate) async fn configure(network: &GuestNetwork) -> Result<(), String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let done = set(&handle, network).await;
    connection.abort();
    done
}

async fn set(handle: &Handle, network: &GuestNetwork) -> Result<(), String> {
    let failed = |error: rtnetlink::Error| error.to_string();
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.map_err(failed)?;
    let mac = bytes_of(&network.mac).ok_or("its MAC is none")?;
    let has_mac = |link: &&LinkMessage| link.attributes.contains(&LinkAttribute::Address(mac.clone()));
    // A fork's has its source's still.
    let link = links.iter().find(has_mac).or_else(|| links.iter().find(|link| is_device(link)));
    let link = link.ok_or("there is no interface; has the kernel virtio_net?")?;
    let index = link.header.index;
    let addresses: Vec<AddressMessage> =
        handle.address().get().set_link_index_filter(index).execute().try_collect().await.map_err(failed)?;
    let address = IpAddr::V4(network.address);
    if has_mac(&link)
        && addresses.iter().any(|has| has.attributes.contains(&AddressAttribute::Address(address)))
    {
        return Ok(()); // and what else the guest has given it is the guest's
    }
    let mut gone = Vec::new();
    for old in addresses {
        if old.header.family == AddressFamily::Inet {
            gone.extend(old.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(address)) => Some(*address),
                _ => None,
            }));
            handle.address().del(old).execute().await.map_err(failed)?;
        }
    }
    let up = LinkUnspec::new_with_index(index).address(mac).mtu(network.mtu).up().build();
    handle.link().set(up).execute().await.map_err(failed)?;
    handle.address().add(index, address, network.prefix).execute().await.map_err(failed)?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(network.gateway).output_interface(index);
    handle.route().add(route.build()).replace().execute().await.map_err(failed)?;
    if !gone.is_empty() {
        // A kernel that cannot leaves its programs waiting (docs/limits.md).
        let _ = sockets::end_connections(&gone);
    }
    Ok(())
}

/// Whether it is of hardware: what programs make (bridges, tunnels) has none.
fn is_device(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::IfName(name) => Path::new("/sys/class/net").join(name).join("device").exists(),
        _ => false,
    })
}

fn bytes_of(mac: &str) -> Option<Vec<u8>> {
    mac.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// Tells systemd-networkd to leave the interface alone: else an image's own rules for all
/// interfaces would ask for an address.
fn networkd(network: &GuestNetwork) -> String {
    let mut text = format!(
        "[Match]\nMACAddress={}\n\n[Link]\nMTUBytes={}\n\n[Network]\nDHCP=no\nAddress={}/{}\nGateway={}\n",
        network.mac, network.mtu, network.address, network.prefix, network.gateway
    );
    for server in &network.dns {
        let _ = writeln!(text, "DNS={server}");
    }
    text
}

/// Tells programs who answers questions for names. A link to systemd-resolved's own, which has been
/// told, stays.
fn name_servers(network: &GuestNetwork, mode: Mode) {
    let link = std::fs::read_link(RESOLV_CONF).ok();
    let is_resolved = |link: &Path| Path::new("/etc").join(link).to_string_lossy().contains(OF_RESOLVED);
    if mode == Mode::Systemd && link.as_deref().is_some_and(is_resolved) {
        return;
    }
    if link.is_some() {
        let _ = std::fs::remove_file(RESOLV_CONF); // what it leads to is not there
    }
    write(RESOLV_CONF, &resolv_conf(network));
}

fn resolv_conf(network: &GuestNetwork) -> String {
    let mut text: String = network.dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (word, values) in [("search", &network.search), ("options", &network.options)] {
        if !values.is_empty() {
            let _ = writeln!(text, "{word} {}", values.join(" "));
        }
    }
    text
}

/// Tells others of another network in a guest that runs: where we have told of the last.
pub(crate) fn tell_again(network: &GuestNetwork) {
    let ours = std::fs::read_to_string(RESOLV_CONF)
        .is_ok_and(|text| text.lines().all(|line| OURS.iter().any(|word| line.starts_with(word))));
    if ours {
        write(RESOLV_CONF, &resolv_conf(network));
    }
    if Path::new(NETWORKD).exists() {
        write(NETWORKD, &networkd(network));
    }
}

/// An image that has no place for it does without.
fn write(path: &str, text: &str) {
    if let Some(directory) = Path::new(path).parent() {
        let _ = std::fs::create_dir_all(directory);
    }
    let _ = std::fs::write(path, text);
}
