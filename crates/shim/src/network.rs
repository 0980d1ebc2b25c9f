//! The VM's network, from before its VMM starts until after it has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::thread::JoinHandle;

use hypeman_network::{Listeners, Networks, Passt, dns};
use hypeman_record::data_dir::DataDir;
use hypeman_record::format::{self, Envelope};
use hypeman_record::launch::Launch;
use hypeman_record::names;
use hypeman_record::network::{Attached, NetworkConfig, Published};
use hypeman_snapshot::standby;
use tokio::task::{spawn_blocking, spawn_local};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Result, StartContext, told};
use crate::journal::Journal;

/// Our own program.
const OURSELVES: &str = "/proc/self/exe";

/// A VM's network while it runs.
#[derive(Debug, Default)]
pub(crate) struct Network {
    config: Option<NetworkConfig>,
    /// Ports of the host's that stand for the guest's.
    pub(crate) published: Vec<Published>,
    /// Taken, and not yet served.
    listeners: Option<Listeners>,
    end: Option<End>,
    _relay: Option<AbortOnDropHandle<()>>,
}

/// An end on a bridge. It is there as long as someone has it open.
#[derive(Debug)]
struct End {
    /// The interface.
    tap: OwnedFd,
    /// By which others know that the network is used.
    in_use: Option<OwnedFd>,
    /// Thread that makes its rules.
    rules: Option<JoinHandle<hypeman_network::Result<()>>>,
}

impl Network {
    /// Takes the ports, and makes the end on a bridge. When it cannot, nothing of it is left.
    pub(crate) fn connect(launch: &Launch, journal: &Journal) -> Result<Network> {
        let Some(config) = launch.network.clone() else { return Ok(Network::default()) };
        let (listeners, published) = Listeners::bind(&config.published).map_err(told)?;
        let mut network = Network { published, ..Network::default() };
        if config.port.is_some() {
            let name = &launch.spec.name;
            network.end = Some(attach(&config, &network.published, name, journal)?);
            network.listeners = Some(listeners);
        }
        // passt takes the ports itself; ours have shown that they are free.
        network.config = Some(config);
        Ok(network)
    }

    /// Goes on with that of a VM that runs. A port that someone else has taken meanwhile is told,
    /// and done without.
    pub(crate) fn take_over(
        launch: &Launch,
        published: &[Published],
        tap: Option<std::io::Result<OwnedFd>>,
        journal: &Journal,
    ) -> Network {
        let Some(config) = launch.network.clone() else { return Network::default() };
        let tap = tap.and_then(|tap| {
            tap.inspect_err(|error| journal.note(format_args!("the end of the network is lost: {error}")))
                .ok()
        });
        // For a VMM that may come after this one.
        let networks = Networks::new(&DataDir::seen_by_shim());
        let network = config.port.as_ref().and_then(|port| networks.get(&port.network).ok());
        let in_use = network.and_then(|network| dns::hold(&networks, &network).ok());
        let end = tap.map(|tap| End { tap, in_use, rules: None });
        let listeners = config.port.is_some().then(|| Listeners::bind(published)).and_then(|bound| {
            bound
                .inspect_err(|error| journal.note(format_args!("a published port is not served: {error}")))
                .ok()
        });
        let listeners = listeners.map(|(listeners, _)| listeners);
        Network { config: Some(config), published: published.to_vec(), listeners, end, _relay: None }
    }

    /// The TAP, to be kept for the next shim.
    pub(crate) fn tap(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(|end| end.tap.as_fd())
    }

    /// Returns the lock on the network that the VMM has to hold.
    pub(crate) fn in_use(&self) -> std::io::Result<Option<OwnedFd>> {
        self.end.as_ref().and_then(|end| end.in_use.as_ref()).map(OwnedFd::try_clone).transpose()
    }

    /// The other end of the VM's interface, for a VMM that is about to be started; without a bridge
    /// it is a passt of its own, whose words go to `output`. Needs a tokio `LocalSet`.
    pub(crate) fn for_vmm(&self, output: &OwnedFd) -> Result<(Option<OwnedFd>, Option<Passt>)> {
        if let Some(end) = &self.end {
            return Ok((Some(end.tap.try_clone().start("hand over the network")?), None));
        }
        let Some(config) = &self.config else { return Ok((None, None)) };
        let output = output.try_clone().start("hand over the network")?;
        let (passt, socket) = Passt::start(&self.published, &config.guest, output).map_err(told)?;
        Ok((Some(socket), Some(passt)))
    }

    /// Waits until the rules hold by which the guest may run.
    pub(crate) async fn ruled(&mut self) -> Result<()> {
        match self.end.as_mut().and_then(|end| end.rules.take()) {
            Some(rules) => spawn_blocking(|| joined(rules)).await.start("connect the VM")?,
            None => Ok(()),
        }
    }

    /// Serves the ports, from when the guest is there that they stand for. Needs a tokio
    /// `LocalSet`.
    pub(crate) fn serve(&mut self, journal: &Rc<Journal>) {
        if let (Some(listeners), Some(config)) = (self.listeners.take(), &self.config) {
            let journal = journal.clone();
            let report = hypeman_network::Report::new(move |text| journal.note(text));
            let relay = spawn_local(hypeman_network::serve(listeners, config.guest.address, report));
            self._relay = Some(AbortOnDropHandle::new(relay));
        }
    }

    /// Removes what a VM that has ended had on its network.
    pub(crate) async fn detach(&mut self) {
        *self = Network::default(); // with the TAP and the ports
        let _ = spawn_blocking(detach).await;
    }
}

fn attach(config: &NetworkConfig, published: &[Published], name: &str, journal: &Journal) -> Result<End> {
    let Some(port) = config.port.clone() else { return Err("there is none").start("find the network") };
    let networks = Networks::new(&DataDir::seen_by_shim());
    let network = networks.get(&port.network).map_err(told)?;
    let attached = Attached {
        port,
        address: config.guest.address,
        mac: config.guest.mac.clone(),
        published: published.to_vec(),
        name: name.to_owned(),
        dns: config.dns.clone(),
        envelope: Envelope::of::<Attached>(),
    };
    // First, so that the successor of a killed shim knows what there may be to remove.
    format::write_unsynced(Path::new(names::ATTACHED), &attached).start("record the network")?;
    // While the VMM starts.
    let (give, given) = std::sync::mpsc::channel();
    let (here, on) = (networks.clone(), network.clone());
    let rules = std::thread::spawn(move || {
        let all = || hypeman_network::attached_on(Path::new(".."), &on.name);
        hypeman_network::attach(&here, &on, &attached, all, |tap| drop(give.send(tap)))
    });
    let Ok(tap) = given.recv() else {
        joined(rules)?;
        return Err("the TAP was not made").start("connect the VM");
    };
    let in_use = dns::hold(&networks, &network).map_err(told)?;
    if let Err(error) = dns::start(&networks, &network, Path::new(OURSELVES)) {
        journal.note(error); // the VM does without
    }
    Ok(End { tap, in_use: Some(in_use), rules: Some(rules) })
}

fn joined(rules: JoinHandle<hypeman_network::Result<()>>) -> Result<()> {
    rules
        .join()
        .unwrap_or_else(|_| Err(hypeman_network::Error::Unable("it panicked".to_owned())))
        .map_err(told)
}

/// The networks, also when our directory has gone.
pub(crate) fn networks() -> Option<Networks> {
    std::fs::canonicalize(DataDir::SEEN_FROM_INSTANCE).ok().map(|path| Networks::new(&DataDir::new(&path)))
}

/// Removes what is recorded of an end on a network, whatever of it there is.
pub(crate) fn detach() {
    let gives_up = !standby::is_whole(Path::new("."));
    let path = Path::new(names::ATTACHED);
    if let Ok(Some(attached)) = format::read::<Attached>(path)
        && hypeman_network::detach(&Networks::new(&DataDir::seen_by_shim()), &attached, gives_up).is_ok()
    {
        let _ = std::fs::remove_file(path);
    }
}
