//! Addresses: each instance on a network has one of its own, and a MAC that goes with it.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use hypeman_record::format::Envelope;
use hypeman_record::network::{Lease, Network};
use ipnet::Ipv4Net;

use crate::error::{Error, Result};

/// A lease for one more instance, while others have these addresses. The caller keeps
/// others from it until the lease is written.
///
/// # Errors
/// [`Error::Full`].
pub fn lease(network: &Network, taken: &HashSet<Ipv4Addr>) -> Result<Lease> {
    let address = free(network.subnet, taken, random()).ok_or_else(|| Error::Full(network.name.clone()))?;
    Ok(Lease { network: network.name.clone(), address, mac: mac(address), envelope: Envelope::of::<Lease>() })
}

/// The first address from the `from`th on that nobody has. Neither the network's own, nor the
/// gateway's, nor the one for all.
fn free(subnet: Ipv4Net, taken: &HashSet<Ipv4Addr>, from: u32) -> Option<Ipv4Addr> {
    let first = u32::from(subnet.network()) + 2;
    let count = u32::from(subnet.broadcast()).checked_sub(first).filter(|count| *count > 0)?;
    let address = |index: u32| Ipv4Addr::from(first + (from % count + index) % count);
    (0..count).map(address).find(|address| !taken.contains(address))
}

/// A MAC of those that anybody may use (the second bit of the first byte, IEEE 802), which no other
/// address on the network has.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Where to look first, so that an address that was given back is not soon another's.
fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_given_and_each_once() {
        let subnet: Ipv4Net = "10.1.2.0/28".parse().unwrap();
        let mut taken = HashSet::new();
        while let Some(address) = free(subnet, &taken, 11) {
            assert!(taken.insert(address));
        }
        assert_eq!(taken.len(), 13, "16, without the network's, the gateway's and the broadcast address");
        assert!(
            taken.contains(&"10.1.2.2".parse().unwrap()) && taken.contains(&"10.1.2.14".parse().unwrap())
        );
        assert_eq!(mac("10.100.0.2".parse().unwrap()), "02:00:0a:64:00:02");
    }
}
