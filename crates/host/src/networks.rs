//! The networks of a host, and who is on them.

use std::net::Ipv4Addr;

use hypeman_network::{Error as NetworkError, Options};
use hypeman_record::network::{Connection, Network};
use serde::Serialize;

use crate::error::{Field, Result, invalid};
use crate::host::Host;
use crate::instance::Instance;
use crate::network::{clean_up, lease};
use crate::usage::unreadable;

/// Description of a network.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkView {
    /// Its record.
    #[serde(flatten)]
    pub network: Network,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// The instances that are on it, running or not.
    pub instances: Vec<Member>,
}

/// An instance that is on a network.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its address, if it has one by now.
    pub address: Option<Ipv4Addr>,
    /// Its MAC address, likewise.
    pub mac: Option<String>,
}

impl Host {
    /// Cleans up the networks: removes what stopped instances have left, and starts DNS servers
    /// that were killed.
    pub fn clean_up_networks(&self) {
        clean_up(&self.instances, self.hypeman());
    }

    /// Whether this user can make bridges; else VMs are connected by passt.
    #[must_use]
    pub fn can_bridge(&self) -> bool {
        hypeman_network::can_bridge().is_ok()
    }

    /// Makes a network.
    ///
    /// # Errors
    /// When this user may not, the name is taken, or its addresses are in use on this host.
    pub fn create_network(&self, name: &str, options: &Options) -> Result<Network> {
        if let Err(why) = hypeman_network::can_bridge() {
            return invalid(Field::Network, name, &why);
        }
        Ok(self.networks().create(name, options)?)
    }

    /// Lists all networks, and the records that could not be read.
    ///
    /// # Errors
    /// When their directory cannot be read, or a record of an instance on one.
    pub fn list_networks(&self) -> Result<(Vec<NetworkView>, Vec<NetworkError>)> {
        let (networks, damaged) = self.networks().list()?;
        let (instances, _) = self.list()?;
        let views = networks.into_iter().map(|network| view(network, &instances));
        Ok((views.collect::<Result<_>>()?, damaged))
    }

    /// Returns the network of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn network(&self, name: &str) -> Result<NetworkView> {
        view(self.networks().get(name)?, &self.list()?.0)
    }

    /// Removes a network.
    ///
    /// # Errors
    /// When an instance is on it, or a record that cannot be read may be.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        let networks = self.networks();
        let network = networks.get(name)?;
        let _unchanged = self.instances.lock()?; // nobody comes to it meanwhile
        let in_use = |user: String| Err(NetworkError::InUse { name: name.to_owned(), user }.into());
        let (instances, damaged) = self.list()?;
        if let Some(user) = on_network(&instances, name).next() {
            return in_use(format!("instance {}", user.record.name));
        }
        let (_, attached) = hypeman_network::attached_in(&self.data_dir().instances());
        let damaged = damaged.iter().map(ToString::to_string);
        if let Some(error) = damaged.chain(attached.iter().map(ToString::to_string)).next() {
            return in_use(unreadable(&error));
        }
        Ok(hypeman_network::remove(&networks, &network)?)
    }

    /// Lists the names of all networks.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn network_names(&self) -> Result<Vec<String>> {
        Ok(self.networks().list()?.0.into_iter().map(|network| network.name).collect())
    }

    /// Makes the bridge of a network, its rules and its DNS server again, as the instances on it
    /// need them.
    ///
    /// # Errors
    /// When there is no such network, or this user may not.
    pub fn repair_network(&self, name: &str) -> Result<()> {
        let (networks, instances) = (self.networks(), self.data_dir().instances());
        let on_it = || hypeman_network::attached_on(&instances, name);
        let network = networks.get(name)?;
        hypeman_network::repair(&networks, &network, on_it)?;
        if !on_it()?.is_empty() {
            hypeman_network::dns::start(&networks, &network, self.hypeman())?;
        }
        Ok(())
    }
}

/// Returns the instances on a network.
fn on_network<'a>(instances: &'a [Instance], network: &str) -> impl Iterator<Item = &'a Instance> {
    instances.iter().filter(move |instance| {
        matches!(&instance.record.settings.network.connection, Connection::Bridge(name) if name == network)
    })
}

fn view(network: Network, instances: &[Instance]) -> Result<NetworkView> {
    let member = |instance: &Instance| {
        let lease = lease(&instance.directory)?;
        Ok(Member {
            name: instance.record.name.clone(),
            id: instance.record.id.clone(),
            address: lease.as_ref().map(|lease| lease.address),
            mac: lease.map(|lease| lease.mac),
        })
    };
    let instances = on_network(instances, &network.name).map(member).collect::<Result<_>>()?;
    Ok(NetworkView { gateway: network.gateway(), network, instances })
}
