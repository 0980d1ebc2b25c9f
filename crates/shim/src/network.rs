//! The VM's network, from before its VMM starts until after it has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hypeman_network::{Listeners, Networks, Passt};
use hypeman_record::format::{self, Envelope};
use hypeman_record::launch::Launch;
use hypeman_record::names;
use hypeman_record::network::{Attached, Published, Wiring};
use tokio::task::{spawn_blocking, spawn_local};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Result, StartContext};
use crate::journal::Journal;

/// Where the data directory is, as seen from the instance's.
const DATA_DIR: &str = "../..";

/// What a VM has of a network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    wiring: Option<Wiring>,
    /// Ports of the host's that stand for the guest's.
    pub(crate) published: Vec<Published>,
    /// Taken, and not yet served.
    listeners: Option<Listeners>,
    /// The end on a bridge. The interface is there as long as someone has it open.
    tap: Option<OwnedFd>,
    _relay: Option<AbortOnDropHandle<()>>,
}

impl Network {
    /// Takes the ports, and makes the end on a bridge. When it cannot, nothing of it is left.
    pub(crate) fn connect(launch: &Launch) -> Result<Network> {
        let Some(wiring) = launch.network.clone() else { return Ok(Network::default()) };
        let (listeners, published) = Listeners::bind(&wiring.published).map_err(told)?;
        let mut network = Network { published, ..Network::default() };
        if wiring.port.is_some() {
            network.tap = Some(attach(&wiring, &network.published)?);
            network.listeners = Some(listeners);
        }
        // passt takes the ports itself; ours have shown that they are free.
        network.wiring = Some(wiring);
        Ok(network)
    }

    /// Goes on with that of a VM that runs. A port that someone else has taken meanwhile is told, and done without.
    pub(crate) fn take_over(
        launch: &Launch,
        published: &[Published],
        tap: Option<std::io::Result<OwnedFd>>,
        journal: &Journal,
    ) -> Network {
        let Some(wiring) = launch.network.clone() else { return Network::default() };
        let tap = tap.and_then(|tap| {
            tap.inspect_err(|error| journal.note(format_args!("the end of the network is lost: {error}")))
                .ok()
        });
        let listeners = wiring.port.is_some().then(|| Listeners::bind(published)).and_then(|bound| {
            bound
                .inspect_err(|error| journal.note(format_args!("a published port is not served: {error}")))
                .ok()
        });
        let listeners = listeners.map(|(listeners, _)| listeners);
        Network { wiring: Some(wiring), published: published.to_vec(), listeners, tap, _relay: None }
    }

    /// The TAP, to be kept for the next shim.
    pub(crate) fn tap(&self) -> Option<BorrowedFd<'_>> {
        self.tap.as_ref().map(AsFd::as_fd)
    }

    /// The other end of the VM's interface, for a VMM that is about to be started; without a bridge it is a passt of its own, whose words go to
    /// `output`. Needs a tokio `LocalSet`.
    pub(crate) fn for_vmm(&self, output: &OwnedFd) -> Result<(Option<OwnedFd>, Option<Passt>)> {
        if let Some(tap) = &self.tap {
            return Ok((Some(tap.try_clone().start("hand over the network")?), None));
        }
        if self.wiring.is_none() {
            return Ok((None, None));
        }
        let output = output.try_clone().start("hand over the network")?;
        let (passt, socket) = Passt::start(&self.published, output).map_err(told)?;
        Ok((Some(socket), Some(passt)))
    }

    /// Serves the ports, from when the guest is there that they stand for. Needs a tokio `LocalSet`.
    pub(crate) fn serve(&mut self) {
        if let (Some(listeners), Some(wiring)) = (self.listeners.take(), &self.wiring) {
            let relay = spawn_local(hypeman_network::serve(listeners, wiring.guest.address));
            self._relay = Some(AbortOnDropHandle::new(relay));
        }
    }

    /// Removes what a VM that has ended had on its network.
    pub(crate) async fn detach(&mut self) {
        *self = Network::default(); // with the TAP and the ports
        let _ = spawn_blocking(detach).await;
    }
}

fn attach(wiring: &Wiring, published: &[Published]) -> Result<OwnedFd> {
    let Some(port) = wiring.port.clone() else { return Err("there is none").start("find the network") };
    let networks = Networks::new(Path::new(DATA_DIR));
    let network = networks.get(&port.network).map_err(told)?;
    let attached = Attached {
        port,
        address: wiring.guest.address,
        mac: wiring.guest.mac.clone(),
        published: published.to_vec(),
        envelope: Envelope::of::<Attached>(),
    };
    // First, so that whoever comes after a shim that was killed knows what there may be to remove.
    format::write_unsynced(Path::new(names::ATTACHED), &attached).start("record the network")?;
    let on_it = |attached: &Attached| attached.port.network == network.name;
    let all = || hypeman_network::attached_in(Path::new("..")).into_iter().filter(on_it).collect();
    hypeman_network::attach(&networks, &network, &attached, all).map_err(|error| {
        detach();
        told(error)
    })
}

/// Removes what is recorded of an end on a network, whatever of it there is.
pub(crate) fn detach() {
    let path = Path::new(names::ATTACHED);
    if let Ok(Some(attached)) = format::read::<Attached>(path)
        && hypeman_network::detach(&Networks::new(Path::new(DATA_DIR)), &attached).is_ok()
    {
        let _ = std::fs::remove_file(path);
    }
}

fn told(error: hypeman_network::Error) -> Error {
    Error::new(error.to_string())
}
