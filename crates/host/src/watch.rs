//! Watches an instance: its states as they come, from its shim or from what one has left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hypeman_console::watch::Watch as Files;
use hypeman_record::end::End;
use hypeman_record::names;
use hypeman_record::protocol::Seen;
use hypeman_session::client::{Client, Watched};
use hypeman_session::events::Events;
use hypeman_session::in_background;

use crate::adopt;
use crate::error::{Error, Needs, Result};
use crate::instance::Instance;
use crate::observe::{Observation, supervised};
use crate::processes::{Holder, KILL_TIMEOUT, look, shim};
use crate::spawn::Started;

/// How often an instance is looked at of which nobody tells: its VM has lost its shim and cannot
/// get another, its shim does not answer, or its files cannot be watched.
const LOOK: Duration = Duration::from_millis(200);

/// Watches an instance. Each of its states is told as it comes, also when its shim is replaced, and
/// nobody polls. As long as this lives, an instance that removes itself stays.
#[derive(Debug)]
pub struct Watch {
    instance: Instance,
    /// The program that takes a VM over whose shim was killed.
    hypeman: PathBuf,
    source: Source,
    last: Option<Observation>,
}

/// Where the next state comes from.
#[derive(Debug)]
enum Source {
    /// The instance has to be looked at.
    Look,
    /// A shim that was connected to, and not heard yet.
    Connected(Client),
    /// Its shim tells.
    Shim(Events),
    /// Nobody tells, but something runs.
    Silent,
    /// Nothing runs; the next start changes its files, which may be watched.
    Nobody(Option<Box<Files>>),
}

/// An instance that was looked at.
enum Looked {
    Shim(Watched),
    Silent(Observation),
    Nobody(Observation),
}

impl Started {
    /// Watches the instance that was started.
    pub(crate) fn watch(self, instance: Instance, hypeman: &Path) -> Watch {
        match self {
            // Connected before the guest ran, so that no end is missed.
            Started::Now(client) => {
                Watch { source: Source::Connected(client), ..Watch::new(instance, hypeman) }
            }
            // Someone was quicker.
            Started::Already => Watch::new(instance, hypeman),
        }
    }
}

impl Watch {
    /// Watches an instance. A VM whose shim is killed is taken over by another, of the program
    /// `hypeman`.
    pub(crate) fn new(instance: Instance, hypeman: &Path) -> Watch {
        Watch { instance, hypeman: hypeman.to_owned(), source: Source::Look, last: None }
    }

    /// Waits for the next state; the first is the one that the instance is in. Needs a tokio
    /// runtime. May be dropped in between.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the instance was removed; or when its files cannot be read.
    pub async fn next(&mut self) -> Result<Observation> {
        loop {
            if let Some(seen) = self.step().await?
                && self.last.as_ref() != Some(&seen)
            {
                return Ok(self.last.insert(seen).clone());
            }
        }
    }

    /// Waits until the VM does not run; returns how it ended, at once when it has ended already.
    ///
    /// # Errors
    /// As [`Watch::next`]; and when the instance was never started, or is in standby since before.
    pub async fn end(&mut self) -> Result<End> {
        loop {
            let seen = self.next().await?;
            match seen.end {
                Some(end) => return Ok(end),
                None if matches!(self.source, Source::Nobody(_)) => {
                    return Err(self.instance.refused(seen.state, Needs::Running));
                }
                None => {}
            }
        }
    }

    /// Waits until the instance is removed.
    pub async fn removed(&mut self) {
        while !matches!(self.next().await, Err(Error::NotFound(_))) {}
    }

    async fn step(&mut self) -> Result<Option<Observation>> {
        match &mut self.source {
            Source::Shim(events) => {
                if let Ok(Some(seen)) = events.next().await {
                    return Ok(Some(told(seen, events.release.clone())));
                }
                self.source = Source::Look; // it has ended, or was killed
                return Ok(None);
            }
            Source::Silent | Source::Nobody(None) => tokio::time::sleep(LOOK).await,
            Source::Nobody(Some(files)) => files.changed().await.map_err(hypeman_session::Error::from)?,
            Source::Connected(_) | Source::Look => {}
        }
        // Before it is looked at: what comes in between is told.
        let files = Files::on(&self.instance.directory.join(names::RECORD)).ok().map(Box::new);
        let client = match std::mem::replace(&mut self.source, Source::Look) {
            Source::Connected(client) => Some(client),
            _ => None,
        };
        let (instance, hypeman) = (self.instance.clone(), self.hypeman.clone());
        let looked = in_background(move || look_at(&instance, client, &hypeman)).await;
        match looked.unwrap_or_else(|_| Err(Error::NotFound(self.instance.record.name.clone())))? {
            Looked::Shim(watched) => {
                self.source = Events::of(watched).map_or(Source::Silent, Source::Shim);
                Ok(None)
            }
            Looked::Silent(seen) => {
                self.source = Source::Silent;
                Ok(Some(seen))
            }
            Looked::Nobody(seen) => {
                self.source = Source::Nobody(files);
                Ok(Some(seen))
            }
        }
    }
}

/// Looks at an instance, and connects to its shim. A VM whose shim was killed gets another.
fn look_at(instance: &Instance, client: Option<Client>, hypeman: &Path) -> Result<Looked> {
    if let Some(Ok(watched)) = client.map(Client::watch) {
        return Ok(Looked::Shim(watched));
    }
    loop {
        let adopted = adopt::adopt(instance, hypeman);
        if !instance.directory.join(names::RECORD).exists() {
            return Err(Error::NotFound(instance.record.name.clone()));
        }
        let asked_one = shim(instance);
        match look(&instance.directory)?.0 {
            Holder::Shim => match instance.client().and_then(|client| Ok(client.watch()?)) {
                Ok(watched) => return Ok(Looked::Shim(watched)),
                // It has ended, or was killed: look again.
                Err(error) if error.has_hung_up() => {
                    let _ = asked_one.is_none_or(|shim| shim.wait_gone(KILL_TIMEOUT));
                }
                Err(_) => return Ok(Looked::Silent(instance.observe()?)),
            },
            Holder::Vmm(_) if adopted.is_ok() && adopt::is_orphaned(instance)? => {}
            Holder::Vmm(_) => return Ok(Looked::Silent(instance.observe()?)),
            Holder::Nobody => {
                let seen = instance.observe()?;
                match seen.supervised || seen.orphaned {
                    true => {} // it was started meanwhile
                    false => return Ok(Looked::Nobody(seen)),
                }
            }
        }
    }
}

/// An observation from the words of a shim.
fn told(seen: Seen, shim_release: Option<String>) -> Observation {
    let Seen { state, reason, health, end, .. } = seen;
    Observation { health, end, shim_release, ..supervised(state, reason) }
}
