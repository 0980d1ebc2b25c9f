//! Who is on the network, by name, read from the instances' records when somebody asks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So long what was read is taken for true.
const FRESH: Duration = Duration::from_secs(1);

/// So long it is even for a name that is not among it: a guest that asks for many such has us read no more often.
const FRESH_FOR_STRANGERS: Duration = Duration::from_millis(100);

/// The zone in which each name can be asked for too, as upstream has it.
const ZONE: &str = ".hypeman.internal";

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
    /// Whom they want to be asked for other names.
    servers: HashMap<Ipv4Addr, Vec<IpAddr>>,
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
        let name = name.strip_suffix(ZONE).unwrap_or(&name);
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
        name.ends_with(ZONE) || name == ZONE[1..]
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
        let mut members = Members::default();
        for attached in hypeman_network::attached_in(&self.instances) {
            if attached.port.network == self.network {
                members.by_name.insert(attached.name.to_ascii_lowercase(), attached.address);
                members.servers.insert(attached.address, attached.dns);
            }
        }
        members
    }
}
