//! Names on the network, read from the instances' records at each question.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So long what was read is taken for true.
const FRESH: Duration = Duration::from_secs(1);

/// So long it is even for a name that is not among it: a guest that asks for many such has us read
/// no more often.
const FRESH_FOR_STRANGERS: Duration = Duration::from_millis(100);

/// The zone in which each name can be asked for too, as upstream has it.
pub(crate) const ZONE: &str = "hypeman.internal";

/// The members of a network.
#[derive(Debug)]
pub(crate) struct Table {
    instances: PathBuf,
    network: String,
    read: Mutex<Option<(Instant, Arc<Members>)>>,
}

#[derive(Debug, Default)]
pub(crate) struct Members {
    by_name: HashMap<String, Ipv4Addr>,
    /// Servers that they have chosen for other names.
    servers: HashMap<Ipv4Addr, Vec<IpAddr>>,
    /// Whether these are all of them. A record that cannot be read may be anybody's.
    pub(crate) are_all: bool,
}

impl Members {
    /// The servers that a member has chosen; empty for the host's.
    pub(crate) fn servers_of(&self, member: IpAddr) -> Vec<IpAddr> {
        match member {
            IpAddr::V4(member) => self.servers.get(&member).cloned().unwrap_or_default(),
            IpAddr::V6(_) => Vec::new(),
        }
    }
}

impl Table {
    pub(crate) fn new(instances: &Path, network: &str) -> Table {
        Table { instances: instances.to_owned(), network: network.to_owned(), read: Mutex::new(None) }
    }

    /// The address of a member, and all of them. Names are compared as DNS does (RFC 1035, 2.3.3).
    pub(crate) fn find(&self, name: &str) -> (Option<Ipv4Addr>, Arc<Members>) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let name = name.strip_suffix(ZONE).and_then(|name| name.strip_suffix('.')).unwrap_or(&name);
        let members = self.members(FRESH);
        if let Some(address) = members.by_name.get(name) {
            return (Some(*address), members);
        }
        let members = self.members(FRESH_FOR_STRANGERS);
        (members.by_name.get(name).copied(), members)
    }

    /// Whether it is a name that nobody else could know.
    pub(crate) fn is_in_zone(name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == ZONE || name.strip_suffix(ZONE).is_some_and(|name| name.ends_with('.'))
    }

    /// The name of the member with an address.
    pub(crate) fn name_of(&self, address: Ipv4Addr) -> Option<String> {
        let members = self.members(FRESH);
        members.by_name.iter().find(|(_, other)| **other == address).map(|(name, _)| name.clone())
    }

    fn members(&self, fresh: Duration) -> Arc<Members> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((at, members)) if at.elapsed() < fresh => members.clone(),
            _ => {
                let members = Arc::new(self.look());
                *read = Some((Instant::now(), members.clone()));
                members
            }
        }
    }

    fn look(&self) -> Members {
        let (all, unreadable) = crate::attached::attached_in(&self.instances);
        let mut members = Members { are_all: unreadable.is_empty(), ..Members::default() };
        for attached in all {
            if attached.port.network == self.network {
                members.by_name.insert(attached.name.to_ascii_lowercase(), attached.address);
                members.servers.insert(attached.address, attached.dns);
            }
        }
        members
    }
}
