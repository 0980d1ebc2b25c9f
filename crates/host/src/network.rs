//! The networks of instances: which one, with which address, and what is left of those that have
//! ended.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use hypeman_files::{Existing, Lock};
use hypeman_network::{Networks, Resolver, USER_NETWORK, can_bridge, can_user};
use hypeman_record::data_dir::DataDir;
use hypeman_record::network::{
    Attached, BridgePort, Connection, DEFAULT, Lease, Network, NetworkConfig, NetworkSettings, Published,
};
use hypeman_record::record::Record;
use hypeman_record::run::Run;
use hypeman_record::spec::{Backend, HypervisorKind, Nic};
use hypeman_record::{format, names};
use hypeman_snapshot::standby;

use crate::error::{Field, Result, invalid};
use crate::instance::Instance;
use crate::store::Store;

/// Names by which a guest knows the host, docker's and ours.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "host.hypeman.internal"];

/// Smallest limit of a network, in bytes a second.
const MIN_RATE: u64 = 1024;

/// A chosen connection, and why it is not a better one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The connection.
    pub connection: Connection,
    /// Why it is none at all, where one would be usual.
    pub why_none: Option<String>,
}

/// Chooses a connection by its name; without one a VM of an image has the best that this host can
/// give, and a kernel alone none.
///
/// # Errors
/// When this host cannot give what was asked for.
pub fn choose(name: Option<&str>, has_image: bool, hypervisor: HypervisorKind) -> Result<Choice> {
    let abilities = hypeman_vmm::hypervisor(hypervisor).abilities();
    let can_user =
        || abilities.check_backend(Backend::Stream).map_err(|why| why.to_string()).and_then(|()| can_user());
    let chosen = |connection| Ok(Choice { connection, why_none: None });
    match name {
        Some("none") => chosen(Connection::None),
        Some("user") => match can_user() {
            Ok(()) => chosen(Connection::User),
            Err(why) => invalid(Field::Network, "user", &why),
        },
        Some("host") => invalid(Field::Network, "host", "VMs have a network of their own"),
        Some(name) => match can_bridge() {
            Ok(()) => chosen(Connection::Bridge(if name == "bridge" { DEFAULT } else { name }.to_owned())),
            Err(why) => invalid(Field::Network, name, &why),
        },
        None if !has_image => chosen(Connection::None),
        None => match (can_bridge(), can_user()) {
            (Ok(()), _) => chosen(Connection::Bridge(DEFAULT.to_owned())),
            (Err(_), Ok(())) => chosen(Connection::User),
            (Err(bridge), Err(user)) => Ok(Choice {
                connection: Connection::None,
                why_none: Some(format!("for a bridge: {bridge}; without privileges: {user}")),
            }),
        },
    }
}

/// Returns the ports that a user wants published, and those that an image exposes.
///
/// # Errors
/// When one is none, or is asked for twice.
pub fn published(asked: &[String], exposed: &[String]) -> Result<Vec<Published>> {
    let mut all: Vec<Published> = Vec::new();
    let all_of = |text: &String, read: fn(&str) -> std::result::Result<Vec<Published>, String>| {
        read(text).or_else(|reason| invalid(Field::Publish, text, &reason))
    };
    for text in asked {
        for published in all_of(text, hypeman_network::parse)? {
            let is_taken = |other: &&Published| {
                published.host.is_some()
                    && (other.address, other.host, other.protocol)
                        == (published.address, published.host, published.protocol)
            };
            if all.iter().any(|other| is_taken(&other)) {
                return invalid(Field::Publish, text, "the host port is given twice");
            }
            all.push(published);
        }
    }
    for text in exposed {
        let exposed = all_of(text, hypeman_network::exposed)?;
        let missing = |port: &Published| {
            !all.iter().any(|other| (other.guest, other.protocol) == (port.guest, port.protocol))
        };
        let more: Vec<Published> = exposed.into_iter().filter(missing).collect();
        all.extend(more);
    }
    Ok(all)
}

/// Refuses settings that this host cannot provide.
///
/// # Errors
/// Says what.
pub fn check(settings: &NetworkSettings) -> Result<()> {
    let NetworkSettings { connection, published, rates, dns, dns_search, dns_options, hosts } = settings;
    if *connection == Connection::None {
        if let Some(published) = published.first() {
            return invalid(Field::Publish, published, "the VM has no network");
        }
        let others = dns_search.iter().chain(dns_options).chain(hosts.iter().map(|host| &host.name));
        if let Some(value) = dns.iter().map(ToString::to_string).chain(others.cloned()).next() {
            return invalid(Field::Dns, value, "the VM has no network");
        }
    }
    if let Some(rate) = rates.inbound.or(rates.outbound) {
        if !matches!(connection, Connection::Bridge(_)) {
            return invalid(Field::NetworkRate, rate, "only bridges can be limited");
        }
        let least = [rates.inbound, rates.outbound].into_iter().flatten().min().unwrap_or(rate);
        if least < MIN_RATE {
            return invalid(Field::NetworkRate, least, "must be 1 KiB a second or more");
        }
    }
    Ok(())
}

/// Gives an instance that is about to be published an address, if it is on a network. The caller
/// holds the lock of the store, so that two hundred at once get two hundred addresses.
pub(crate) fn give_lease(store: &Store, directory: &Path, record: &Record) -> Result<()> {
    let Connection::Bridge(name) = &record.settings.network.connection else { return Ok(()) };
    let (network, _) = Networks::new(store.data_dir()).get_or_create(name)?;
    new_lease(store, &network, directory).map(drop)
}

/// Chooses an address that no instance has, also none whose record cannot be read.
fn new_lease(store: &Store, network: &Network, directory: &Path) -> Result<Lease> {
    let mut taken = HashSet::new();
    for other in hypeman_files::entries(&store.directory())? {
        let lease = lease(&other)?;
        taken.extend(lease.filter(|lease| lease.network == network.name).map(|lease| lease.address));
    }
    let lease = hypeman_network::lease(network, &taken)?;
    // Its last owner's clients are none of the next one's.
    hypeman_network::forget_address(lease.address);
    // One that a power cut takes is given anew.
    format::write_unsynced(&directory.join(names::LEASE), &lease)?;
    Ok(lease)
}

/// Returns the address of an instance, if it is on a network.
///
/// # Errors
/// When its record cannot be read.
pub fn lease(directory: &Path) -> Result<Option<Lease>> {
    Ok(format::read(&directory.join(names::LEASE))?)
}

/// Returns the resolved network configuration of an instance.
pub(crate) fn config(store: &Store, instance: &Instance) -> Result<Option<NetworkConfig>> {
    let settings = &instance.record.settings.network;
    let by_bridge = match &settings.connection {
        Connection::None => return Ok(None),
        Connection::User => None,
        Connection::Bridge(name) => Some(name),
    };
    let Some(name) = by_bridge else {
        let host = hypeman_network::of_host();
        let mut guest = USER_NETWORK.guest(mac_of(&instance.record.id), &settings.dns, &host.servers);
        (guest.search, guest.options) = lookup(settings, &host);
        guest.hosts = hosts(settings, None);
        return Ok(Some(NetworkConfig {
            guest,
            port: None,
            published: settings.published.clone(),
            dns: settings.dns.clone(),
        }));
    };
    let networks = Networks::new(store.data_dir());
    networks.get_or_create(name)?;
    let network = networks.get_for_start(name)?;
    let lease = match lease(&instance.directory)? {
        Some(lease) if network.subnet.contains(&lease.address) => lease,
        // The network is another one than that from which it had its address.
        _ => {
            let _held = store.lock()?;
            new_lease(store, &network, &instance.directory)?
        }
    };
    Ok(Some(bridged(&network, &lease, instance, settings)))
}

fn bridged(
    network: &Network,
    lease: &Lease,
    instance: &Instance,
    settings: &NetworkSettings,
) -> NetworkConfig {
    let host = hypeman_network::of_host();
    let dns = match (hypeman_network::answers_names(network), settings.dns.is_empty()) {
        (true, _) => vec![network.gateway().into()],
        (false, true) => host.servers.clone(),
        (false, false) => settings.dns.clone(),
    };
    let (search, options) = lookup(settings, &host);
    NetworkConfig {
        guest: hypeman_record::guest::config::GuestNetwork {
            mac: lease.mac.clone(),
            address: lease.address,
            prefix: network.subnet.prefix_len(),
            gateway: network.gateway(),
            mtu: network.mtu,
            dns,
            search,
            options,
            hosts: hosts(settings, Some(network.gateway())),
        },
        port: Some(BridgePort {
            network: network.name.clone(),
            bridge: network.bridge.clone(),
            tap: BridgePort::tap_of(&instance.record.id),
            rates: settings.rates,
        }),
        published: settings.published.clone(),
        dns: settings.dns.clone(),
    }
}

/// Returns the search domains and options of a guest: its own, or the host's.
fn lookup(settings: &NetworkSettings, host: &Resolver) -> (Vec<String>, Vec<String>) {
    let chosen =
        |own: &Vec<String>, hosts: &Vec<String>| if own.is_empty() { hosts.clone() } else { own.clone() };
    let mut search = chosen(&settings.dns_search, &host.search);
    search.retain(|domain| domain != "."); // docker's word for none
    (search, chosen(&settings.dns_options, &host.options))
}

/// Returns further names that a guest knows; the host's own ones where it has an address on the
/// guest's network.
fn hosts(settings: &NetworkSettings, gateway: Option<Ipv4Addr>) -> Vec<(String, IpAddr)> {
    let gateway = gateway.map(IpAddr::V4);
    let of_host = gateway.iter().flat_map(|gateway| HOST_NAMES.map(|name| (name.to_owned(), *gateway)));
    let given = settings.hosts.iter().filter_map(|host| Some((host.name.clone(), host.address.or(gateway)?)));
    of_host.chain(given).collect()
}

/// Returns a MAC for a network without other VMs.
fn mac_of(id: &str) -> String {
    let digits = |at: usize| id.get(at..at + 2).unwrap_or("00");
    format!("02:00:00:{}:{}:{}", digits(0), digits(2), digits(4))
}

/// The interface of a VM that is wired so.
pub(crate) fn nic(config: &NetworkConfig) -> Nic {
    let backend = if config.port.is_some() { Backend::Tap } else { Backend::Stream };
    Nic { mac: config.guest.mac.clone(), backend }
}

/// Of an instance that goes on: the ports that were found free last time are asked for again.
pub(crate) fn as_before(config: NetworkConfig, instance: &Instance) -> NetworkConfig {
    let last = format::read::<Run>(&instance.directory.join(names::RUN)).ok().flatten();
    let published = last.map(|run| run.published).unwrap_or_default();
    let is_same = |(one, other): (&Published, &Published)| {
        (one.address, one.guest, one.protocol) == (other.address, other.guest, other.protocol)
    };
    let fits =
        published.len() == config.published.len() && published.iter().zip(&config.published).all(is_same);
    if fits { NetworkConfig { published, ..config } } else { config }
}

/// The network of a fork: the same, and the same ports of the guest, which others of the host stand
/// for.
pub(crate) fn of_fork(settings: &NetworkSettings) -> NetworkSettings {
    let free = |published: &Published| Published { host: None, host_to: None, ..*published };
    NetworkSettings { published: settings.published.iter().map(free).collect(), ..settings.clone() }
}

/// Removes TAPs and rules of stopped instances whose shim was killed before it could, and lets
/// `hypeman` start DNS servers that were killed. Fails silently for a user who may not: such a user
/// has no network either.
pub fn clean_up(store: &Store, hypeman: &Path) {
    let mut used = BTreeSet::new();
    for directory in hypeman_files::entries(&store.directory()).unwrap_or_default() {
        if !directory.join(names::ATTACHED).exists() {
            continue;
        }
        if hypeman_network::is_alive(&directory) {
            let attached = format::read::<Attached>(&directory.join(names::ATTACHED)).ok().flatten();
            used.extend(attached.map(|attached| attached.port.network));
        } else if let Ok(Existing::Taken(_alone)) =
            Lock::try_acquire_existing(&directory.join(names::SHIM_PID))
        {
            release(&directory); // nobody starts it meanwhile
        }
    }
    let networks = Networks::new(store.data_dir());
    for network in used.iter().filter_map(|name| networks.get(name).ok()) {
        if let Err(error) = hypeman_network::dns::start(&networks, &network, hypeman) {
            tracing::info!("network {}: {error}", network.name);
        }
    }
}

/// Removes what an instance that does not run has left on its network.
pub(crate) fn release(directory: &Path) {
    let Some(data_dir) = DataDir::of_instance(directory) else { return };
    let path = directory.join(names::ATTACHED);
    let Ok(Some(attached)) = format::read::<Attached>(&path) else { return };
    let networks = Networks::new(&data_dir);
    match hypeman_network::detach(&networks, &attached, !standby::is_whole(directory)) {
        Ok(()) => drop(std::fs::remove_file(path)), // what is left of it is released again, and is not there
        Err(error) => tracing::info!("network {}: {error}", attached.port.network),
    }
}
