//! The records of networks, `<data>/networks/NAME/network.json`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use hypeman_files::{Draft, Lock, lock_store};
use hypeman_record::data_dir::DataDir;
use hypeman_record::format::{self, Envelope};
use hypeman_record::network::{DEFAULT, HostPort, Network};
use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::{link, nft, resolver};

/// The record's file.
const RECORD: &str = "network.json";

/// Held while the rules of the network are being changed.
const LOCK: &str = "lock";

/// Prefix of a bridge's name, before a number.
pub(crate) const BRIDGE: &str = "hypeman";

/// Maximum length of a name of an interface (`IFNAMSIZ` of linux/if.h, without the NUL).
const MAX_INTERFACE: usize = 15;

/// Maximum length of a name of a network.
const MAX_NAME: usize = 63;

/// Words that mean something else, or will be taken to.
const RESERVED: [&str; 5] = ["none", "user", "host", "bridge", "container"];

/// Smallest MTU of IPv4 hosts (RFC 791), and the largest of Ethernet's devices here.
const MTUS: std::ops::RangeInclusive<u32> = 576..=65535;

/// Names that the kernel has for all interfaces, and for those to come (/proc/sys/net/ipv4/conf).
const NO_BRIDGES: [&str; 3] = ["all", "default", "lo"];

/// Addresses that no network can have (RFC 6890), and what they are.
const SPECIAL: [(&str, &str); 5] = [
    ("0.0.0.0/8", "this network's"),
    ("127.0.0.0/8", "the loopback interface's"),
    ("169.254.0.0/16", "each link's own, and the metadata services' of clouds"),
    ("224.0.0.0/4", "for groups (multicast)"),
    ("240.0.0.0/4", "reserved"),
];

/// Request for a network; `None` is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Its addresses.
    pub subnet: Option<Ipv4Net>,
    /// The interface.
    pub bridge: Option<String>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Ports of the host's own that the VMs may reach.
    pub host_ports: Vec<HostPort>,
    /// Whether it is made because an instance names it.
    pub by_use: bool,
}

/// The networks of a data directory.
#[derive(Debug, Clone)]
pub struct Networks {
    data_dir: DataDir,
}

impl Networks {
    /// Returns the networks of a data directory.
    #[must_use]
    pub fn new(data_dir: &DataDir) -> Networks {
        Networks { data_dir: data_dir.clone() }
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// Where what belongs to a network lies.
    #[must_use]
    pub fn directory(&self, name: &str) -> PathBuf {
        self.data_dir.networks().join(name)
    }

    /// All of them, by name, and the records that cannot be read.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Network>, Vec<Error>)> {
        let (mut networks, mut damaged) = (Vec::new(), Vec::new());
        for directory in hypeman_files::entries(&self.data_dir.networks())? {
            match format::read(&directory.join(RECORD)) {
                Ok(network) => networks.extend(network),
                Err(error) => damaged.push(error.into()),
            }
        }
        networks.sort_by(|one: &Network, other| one.name.cmp(&other.name));
        Ok((networks, damaged))
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`], or that of its record.
    pub fn get(&self, name: &str) -> Result<Network> {
        check_name(name)?;
        self.read(name)?.ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    /// Whose bridge a network's is.
    pub(crate) fn owner(&self, name: &str) -> Result<Owner> {
        Owner::of(&self.directory(name), self.data_dir.path())
    }

    /// The one of this name, on a bridge that no other data directory has: after a boot of the host
    /// another one's network may have come up by the same bridge, with the same addresses. Then it
    /// gets others.
    ///
    /// # Errors
    /// When there is none, or it can have no others.
    pub fn get_for_start(&self, name: &str) -> Result<Network> {
        let network = self.get(name)?;
        if !link::is_foreign(&network, &self.owner(name)?)? {
            return Ok(network);
        }
        let _held = lock_store(&self.data_dir.networks())?;
        let network = self.get(name)?; // somebody may have been quicker
        if !link::is_foreign(&network, &self.owner(name)?)? {
            return Ok(network);
        }
        let (others, _) = self.list()?;
        let host = link::host()?;
        let network = Network {
            bridge: free_bridge(&others, &host.interfaces),
            subnet: choose_subnet(name, None, &others, &host.taken)?,
            ..network
        };
        format::rewrite(&self.directory(name).join(RECORD), &network)?;
        Ok(network)
    }

    /// The one of this name, which is made if there is none; whether it was.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn get_or_create(&self, name: &str) -> Result<(Network, bool)> {
        check_name(name)?;
        if let Some(network) = self.read(name)? {
            return Ok((network, false));
        }
        let options = Options { by_use: name != DEFAULT, ..Options::default() };
        match self.create(name, &options) {
            Err(Error::Taken(_)) => Ok((self.get(name)?, false)), // someone was quicker
            created => Ok((created?, true)),
        }
    }

    /// Makes one. The kernel hears of it when a VM is put on it.
    ///
    /// # Errors
    /// When there is one of that name, or what was asked for cannot be had.
    pub fn create(&self, name: &str, options: &Options) -> Result<Network> {
        check_name(name)?;
        check_options(options)?;
        let draft = Draft::begin(&self.data_dir.networks())?;
        let _held = lock_store(&self.data_dir.networks())?;
        if self.read(name)?.is_some() {
            return Err(Error::Taken(name.to_owned()));
        }
        let (others, damaged) = self.list()?;
        if let Some(error) = damaged.into_iter().next() {
            return Err(error); // it may have any bridge and any addresses
        }
        let host = link::host()?;
        let bridge = match &options.bridge {
            Some(bridge) if host.interfaces.contains(bridge) => {
                return invalid("the bridge", bridge, "the host has an interface of that name");
            }
            Some(bridge) => {
                nft::check_name(bridge).or_else(|reason| invalid("the bridge", bridge, &reason))?;
                bridge.clone()
            }
            None => free_bridge(&others, &host.interfaces),
        };
        let network = Network {
            name: name.to_owned(),
            bridge,
            subnet: choose_subnet(name, options.subnet, &others, &host.taken)?,
            mtu: options.mtu.unwrap_or(host.mtu),
            isolated: name == DEFAULT,
            serves_names: name != DEFAULT || resolver::of_host().servers.is_empty(),
            host_ports: options.host_ports.clone(),
            made_by_use: options.by_use,
            created: Timestamp::now(),
            envelope: Envelope::of::<Network>(),
        };
        format::write(&draft.path().join(RECORD), &network)?;
        draft.publish(&self.directory(name))?;
        Ok(network)
    }

    /// Forgets one that nobody uses.
    ///
    /// # Errors
    /// When its directory cannot be removed.
    pub fn forget(&self, name: &str) -> Result<()> {
        let held = lock_store(&self.data_dir.networks())?;
        Ok(hypeman_files::remove_entry(&self.data_dir.networks(), &self.directory(name), &held)?)
    }

    /// Waits for the lock under which what a network has in the kernel is changed.
    ///
    /// # Errors
    /// When its directory is gone.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Ok(Lock::acquire(&self.directory(name).join(LOCK))?)
    }

    fn read(&self, name: &str) -> Result<Option<Network>> {
        Ok(format::read(&self.directory(name).join(RECORD))?)
    }
}

/// Checks a network's name: a letter or digit, then letters, digits, `_`, `.` and `-`.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(allowed) {
        let reason = "must be a letter or digit followed by letters, digits, `_`, `.` and `-`";
        return invalid("the network's name", name, reason);
    }
    if name.len() > MAX_NAME {
        return invalid("the network's name", name, "must be 63 characters or less");
    }
    if RESERVED.contains(&name) {
        return invalid("the network's name", name, "the word has another meaning");
    }
    Ok(())
}

fn check_options(options: &Options) -> Result<()> {
    if let Some(bridge) = &options.bridge
        && NO_BRIDGES.contains(&bridge.as_str())
    {
        return invalid("the bridge", bridge, "the word has another meaning to the kernel");
    }
    if let Some(bridge) = &options.bridge
        && (bridge.is_empty()
            || bridge.len() > MAX_INTERFACE
            || !bridge.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
    {
        return invalid("the bridge", bridge, "a name has 1 to 15 letters, digits, `_` and `-`");
    }
    if let Some(mtu) = options.mtu.filter(|mtu| !MTUS.contains(mtu)) {
        return invalid("the MTU", &mtu.to_string(), "it has to be 576 to 65535");
    }
    if let Some(subnet) = options.subnet.filter(|subnet| !(8..=29).contains(&subnet.prefix_len())) {
        return invalid("the subnet", &subnet.to_string(), "its prefix has to be 8 to 29 bits long");
    }
    let special = SPECIAL.iter().map(|(net, meaning)| (net.parse::<Ipv4Net>(), meaning));
    let special = special.filter_map(|(net, meaning)| Some((net.ok()?, meaning)));
    for (net, meaning) in special {
        if let Some(subnet) = options.subnet.filter(|subnet| link::overlap(net, subnet.trunc())) {
            return invalid("the subnet", &subnet.to_string(), &format!("{net} is {meaning}"));
        }
    }
    Ok(())
}

fn invalid<T>(what: &'static str, value: &str, reason: &str) -> Result<T> {
    Err(Error::Invalid { what, value: value.to_owned(), reason: reason.to_owned() })
}

/// The first name that no interface and no network has.
fn free_bridge(others: &[Network], interfaces: &[String]) -> String {
    let taken =
        |bridge: &String| interfaces.contains(bridge) || others.iter().any(|other| other.bridge == *bridge);
    (0..u32::MAX).map(|number| format!("{BRIDGE}{number}")).find(|bridge| !taken(bridge)).unwrap_or_default()
}

/// Addresses that neither the host is on nor another network has: the given ones, or the first of
/// 10.100.0.0/16, 10.101.0.0/16 and so on, then of 172.16.0.0/12 and 192.168.0.0/16.
fn choose_subnet(
    network: &str,
    given: Option<Ipv4Net>,
    others: &[Network],
    routes: &[Ipv4Net],
) -> Result<Ipv4Net> {
    let taken = |subnet: &Ipv4Net| {
        let networks = others.iter().map(|other| other.subnet);
        routes.iter().copied().chain(networks).find(|route| link::overlap(*route, *subnet))
    };
    let clash = |subnet: Ipv4Net, route: Ipv4Net| Error::Clash {
        network: network.to_owned(),
        subnet: subnet.to_string(),
        route: route.to_string(),
    };
    if let Some(subnet) = given {
        let subnet = subnet.trunc();
        return taken(&subnet).map_or(Ok(subnet), |route| Err(clash(subnet, route)));
    }
    let tens =
        (100..=255).chain(0..100).map(|second| Ipv4Net::new_assert(Ipv4Addr::new(10, second, 0, 0), 16));
    let others_of_docker = (17..32).chain([16]).map(|b| Ipv4Net::new_assert(Ipv4Addr::new(172, b, 0, 0), 16));
    let small = (0..16).rev().map(|c| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, c << 4, 0), 20));
    let mut clashes = None;
    for subnet in tens.chain(others_of_docker).chain(small) {
        match taken(&subnet) {
            None => return Ok(subnet),
            Some(route) => clashes = Some(clash(subnet, route)),
        }
    }
    Err(clashes.unwrap_or(Error::Full(network.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_chosen_beside_the_host_s_routes() {
        let choose = |given: Option<&str>, routes: &[&str]| {
            let routes: Vec<Ipv4Net> = routes.iter().map(|route| net(route)).collect();
            choose_subnet("n", given.map(net), &[], &routes).map(|subnet| subnet.to_string())
        };
        assert_eq!(choose(None, &[]).unwrap(), "10.100.0.0/16");
        assert_eq!(choose(None, &["10.100.7.0/24"]).unwrap(), "10.101.0.0/16");
        assert_eq!(choose(None, &["10.96.0.0/11"]).unwrap(), "10.128.0.0/16");
        assert_eq!(choose(Some("192.168.5.9/24"), &["10.0.0.0/8"]).unwrap(), "192.168.5.0/24");
        let error = choose(Some("10.1.0.0/16"), &["10.0.0.0/8"]).unwrap_err().to_string();
        assert!(error.contains("10.1.0.0/16") && error.contains("10.0.0.0/8"), "{error}");
        assert_eq!(choose(None, &["10.0.0.0/8"]).unwrap(), "172.17.0.0/16");
        assert_eq!(choose(None, &["10.0.0.0/8", "172.16.0.0/12"]).unwrap(), "192.168.240.0/20");
        assert!(choose(None, &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]).is_err());
    }

    #[test]
    fn names_and_options_that_cannot_be_are_refused() {
        for name in ["", "none", "user", "host", "../x", "a b", "-a", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("default").is_ok() && check_name("team-1.dev").is_ok());
        let bridge = |name: &str| Options { bridge: Some(name.to_owned()), ..Options::default() };
        for options in [
            bridge("a/b"),
            bridge("much-too-long-a-name"),
            Options { mtu: Some(100), ..Options::default() },
            Options { subnet: Some(net("10.0.0.0/30")), ..Options::default() },
            Options { subnet: Some(net("224.0.0.0/8")), ..Options::default() },
            Options { subnet: Some(net("255.255.0.0/24")), ..Options::default() },
            Options { subnet: Some(net("169.254.7.0/24")), ..Options::default() },
            Options { subnet: Some(net("127.1.0.0/16")), ..Options::default() },
            bridge("all"),
            bridge("default"),
        ] {
            assert!(check_options(&options).is_err(), "{options:?}");
        }
    }
}
