//! A VM's end on a bridge: made, removed, and put back.

use std::os::fd::OwnedFd;
use std::path::Path;

use hypeman_record::network::{Attached, BridgePort, Lease, Network};
use hypeman_record::{format, names};
use rtnetlink::Handle;

use crate::abilities::can_bridge;
use crate::error::{Error, Result};
use crate::netlink::netlink;
use crate::network::Networks;
use crate::owner::Owner;
use crate::{batch, flows, link, nft, rules, shape, tap};

/// Makes a VM's end on its network, and the network where it is not there. `give` gets the TAP,
/// which is there as long as it is open, as soon as it is made; the guest is not to run before this
/// returns, for only then do the rules hold. `all` tells what other ends there are: their rules are
/// put back, should somebody have flushed them.
///
/// # Errors
/// When the kernel refuses; what was made is removed then.
pub fn attach(
    networks: &Networks,
    network: &Network,
    attached: &Attached,
    all: impl Fn() -> Result<Vec<Attached>>,
    give: impl FnOnce(OwnedFd),
) -> Result<()> {
    let owner = networks.owner(&network.name)?;
    let made = netlink(async |handle| {
        let bridge = link::ensure_bridge(&handle, network, &owner).await?;
        let made = tap::make(&attached.port.tap)?;
        connect(&handle, network, attached, bridge).await?;
        Ok(made)
    });
    let ruled = made.and_then(|made| {
        give(made);
        flows::forget_others(&attached.published, attached.address);
        batch::add(networks, network, attached, || put_back(network, &owner, with(attached, all()?)))
    });
    if ruled.is_err() {
        let _ = take_away(network, attached);
    }
    ruled
}

/// These, and one that may be among them.
fn with(attached: &Attached, mut all: Vec<Attached>) -> Vec<Attached> {
    all.retain(|other| other.port.tap != attached.port.tap);
    all.push(attached.clone());
    all
}

async fn connect(handle: &Handle, network: &Network, attached: &Attached, bridge: u32) -> Result<()> {
    let port = &attached.port;
    let interface = link::enslave(handle, &port.tap, bridge, network).await?;
    if let Some(rate) = port.rates.inbound {
        shape::limit(handle, interface, &port.tap, rate).await?;
    }
    if let Some(rate) = port.rates.outbound {
        let ifb = BridgePort::ifb_of(&port.tap);
        let interface = link::make_ifb(handle, &ifb).await?;
        shape::limit(handle, interface, &ifb, rate).await?;
    }
    Ok(())
}

/// Removes what a VM had on its network; whatever of it is still there. Its TAP goes with the last
/// who has it open. One that sleeps, and does not give its ports up, keeps the flows of its
/// clients.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(networks: &Networks, attached: &Attached, gives_up: bool) -> Result<()> {
    if gives_up {
        flows::forget_own(&attached.published, attached.address);
    }
    let network = match networks.get(&attached.port.network) {
        Err(Error::NotFound(_)) => return Ok(()), // and all that it had with it
        network => network?,
    };
    let _held = networks.lock(&network.name)?;
    if link::is_foreign(&network, &networks.owner(&network.name)?)? {
        return Ok(()); // what it had went with its bridge
    }
    take_away(&network, attached)
}

fn take_away(network: &Network, attached: &Attached) -> Result<()> {
    if attached.port.rates.outbound.is_some() {
        netlink(async |handle| link::remove(&handle, &BridgePort::ifb_of(&attached.port.tap)).await)?;
    }
    // It fails where the tables are gone, and what was in them.
    let _ = nft::run(&rules::delete(network, attached));
    Ok(())
}

/// Makes all that a network has in the kernel anew, with the ends that there are.
///
/// # Errors
/// When the kernel refuses.
pub fn repair(
    networks: &Networks,
    network: &Network,
    all: impl FnOnce() -> Result<Vec<Attached>>,
) -> Result<()> {
    let _held = networks.lock(&network.name)?;
    put_back(network, &networks.owner(&network.name)?, all()?)
}

fn put_back(network: &Network, owner: &Owner, all: Vec<Attached>) -> Result<()> {
    let there = netlink(async |handle| {
        let bridge = link::ensure_bridge(&handle, network, owner).await?;
        let mut there = Vec::new();
        for attached in all {
            // One without a TAP is about to come, or has gone.
            if link::find(&handle, &attached.port.tap).await.is_some() {
                connect(&handle, network, &attached, bridge).await?;
                there.push(attached);
            }
        }
        Ok(there)
    })?;
    nft::run(&rules::all(network, &there)).map(drop)
}

/// Removes a network that was made because an instance named it, if none is on it but the one in
/// `leaving`, which is about to be removed.
///
/// # Errors
/// When the kernel refuses, or it cannot be told who is on it.
pub fn remove_if_unused(networks: &Networks, name: &str, leaving: &Path) -> Result<()> {
    let network = networks.get(name)?;
    if !network.made_by_use {
        return Ok(());
    }
    let instances = networks.data_dir().instances();
    let _unchanged = hypeman_files::lock_store(&instances)?; // nobody comes to it meanwhile
    for directory in hypeman_files::entries(&instances)? {
        if directory.file_name() == leaving.file_name() {
            continue;
        }
        let lease = format::read::<Lease>(&directory.join(names::LEASE))?;
        if lease.is_some_and(|lease| lease.network == name) {
            return Ok(());
        }
    }
    remove(networks, &network)
}

/// Removes a network from the kernel, and forgets it. The caller has made sure that nobody uses it.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(networks: &Networks, network: &Network) -> Result<()> {
    {
        let _held = networks.lock(&network.name)?;
        let is_ours = !link::is_foreign(network, &networks.owner(&network.name)?)?;
        let has_bridge = netlink(async |handle| Ok(link::find(&handle, &network.bridge).await.is_some()))?;
        // One that never had a bridge has no rules either, and its owner may not be allowed
        // to ask for any.
        if is_ours && (has_bridge || can_bridge().is_ok()) {
            nft::run(&rules::remove(network))?;
            netlink(async |handle| link::remove(&handle, &network.bridge).await)?;
        }
    }
    networks.forget(&network.name)
}
