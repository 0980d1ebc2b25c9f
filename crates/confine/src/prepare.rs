//! Builds in the parent what confines a VMM.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use hypeman_record::confinement::{Measure, Strictness};
use hypeman_record::descriptors;
use rustix::thread::CapabilitySet;
use seccompiler::BpfProgram;

use crate::cgroup::{self, Group};
use crate::child::Child;
use crate::devices::{self, Devices};
use crate::files::{self, Rules};
use crate::needs::Needs;
use crate::user::User;
use crate::{calls, user, view};

/// A measure from what was built, or why it was not.
fn measure<T>(measure: &str, built: &Result<T, String>, confined_to: impl FnOnce(&T) -> String) -> Measure {
    let (confined_to, missing) = match built {
        Ok(built) => (Some(confined_to(built)), None),
        Err(why) => (None, Some(why.clone())),
    };
    Measure { measure: measure.to_owned(), confined_to, missing }
}

/// Sandbox built for a VMM.
#[derive(Debug)]
pub struct Confinement {
    /// Steps of its process before its program runs.
    pub child: Child,
    /// Descriptors for it, by the numbers where it expects them. They replace files that it is
    /// given by the same numbers.
    pub descriptors: Vec<(OwnedFd, i32)>,
    /// Parts of the sandbox, also those that the host lacks.
    pub measures: Vec<Measure>,
    /// Its cgroup, to be removed when it has ended ([`cgroup::remove`]).
    pub cgroup: Option<PathBuf>,
}

/// The errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// [`Strictness::Strict`] was asked for, and the host lacks a part.
    #[error("strict confinement is not possible: {0}")]
    NotStrict(String),
}

/// Builds what this host can give a VMM.
///
/// # Errors
/// When all of it is asked for and some cannot be had.
pub fn prepare(needs: &Needs<'_>, strictness: Strictness) -> Result<Confinement, Error> {
    let built = Built::new(needs);
    let measures = built.measures();
    let missing = missing(&measures);
    if strictness == Strictness::Strict && !missing.is_empty() {
        if let Ok(group) = &built.group {
            cgroup::remove(&group.path);
        }
        return Err(Error::NotStrict(missing));
    }
    Ok(built.into_confinement(measures))
}

/// Returns the missing parts, with reasons; empty when there are none.
#[must_use]
pub fn missing(measures: &[Measure]) -> String {
    let missing = |measure: &Measure| Some(format!("{}: {}", measure.measure, measure.missing.as_ref()?));
    measures.iter().filter_map(missing).collect::<Vec<_>>().join("; ")
}

/// Builds the parts of the sandbox, each or the reason why not.
struct Built {
    devices: Result<Devices, String>,
    user: Result<User, String>,
    rules: Result<Rules, String>,
    views: Result<Vec<(OwnedFd, i32)>, String>,
    filters: Result<Vec<BpfProgram>, String>,
    group: Result<Group, String>,
}

impl Built {
    fn new(needs: &Needs<'_>) -> Built {
        let devices = devices::prepare(needs.kvm);
        let by_name = || user::BY_NAME.to_owned();
        let home = needs.home.ok_or_else(by_name);
        let user = home.clone().and_then(|home| user::prepare(needs, home, devices.is_ok()));
        let rules = home.clone().and_then(|home| files::prepare(needs, home, devices.as_ref().ok()));
        let views = home.clone().and_then(|_| view::prepare(needs));
        let filters = calls::filters(needs.io_uring);
        let group = cgroup::make(needs.name, needs.memory, needs.threads);
        Built { devices, user, rules, views, filters, group }
    }

    /// Returns the capabilities that are left. The VM's files may be the user's already, also for a
    /// root who cannot become that user now.
    fn capabilities(&self) -> CapabilitySet {
        if rustix::process::geteuid().is_root() && self.user.is_err() {
            CapabilitySet::DAC_OVERRIDE
        } else {
            CapabilitySet::empty()
        }
    }

    fn measures(&self) -> Vec<Measure> {
        let kept = if self.capabilities().is_empty() { "" } else { " but to open root's and the VMs' files" };
        let privileges = Ok(format!("no capabilities{kept}, no core dump"));
        vec![
            measure("user", &self.user, ToString::to_string),
            measure("no-new-privileges", &privileges, String::clone),
            measure("landlock", &self.rules, Rules::describe),
            measure("read-only-files", &self.views, |_| "not even their owner can write them".to_owned()),
            measure("seccomp", &self.filters, |_| calls::DESCRIPTION.to_owned()),
            measure("namespaces", &self.devices, |_| devices::DESCRIPTION.to_owned()),
            measure("cgroup", &self.group, |group| group.path.display().to_string()),
        ]
    }

    fn into_confinement(self, measures: Vec<Measure>) -> Confinement {
        let child = Child {
            cgroup: self.group.is_ok(),
            devices: self.devices.is_ok(),
            rules: self.rules.is_ok(),
            capabilities: self.capabilities(),
            user: self.user.ok().filter(|_| rustix::process::geteuid().is_root()),
            filters: self.filters.unwrap_or_default(),
        };
        let (cgroup, members) = self.group.map(|group| (group.path, group.members)).ok().unzip();
        let descriptors = [
            members.map(|members| (members, descriptors::CGROUP)),
            self.devices.ok().map(|devices| (devices.mount, descriptors::DEVICES)),
            self.rules.ok().map(|rules| (rules.ruleset, descriptors::RULES)),
        ];
        let descriptors = descriptors.into_iter().flatten().chain(self.views.into_iter().flatten()).collect();
        Confinement { child, descriptors, measures, cgroup }
    }
}

/// Describes the sandbox that this host supports, for people.
#[must_use]
pub fn survey() -> Vec<Measure> {
    let devices = devices::prepare(true);
    let user = user::of_this_host(devices.is_ok());
    vec![
        measure("user", &user, ToString::to_string),
        measure("landlock", &files::version(), |version| format!("Landlock, version {version}")),
        measure("seccomp", &calls::filters(false), |_| calls::DESCRIPTION.to_owned()),
        measure("namespaces", &devices, |_| devices::DESCRIPTION.to_owned()),
        measure("cgroup", &cgroup::place(), |place| place.display().to_string()),
    ]
}
