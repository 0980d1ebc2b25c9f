//! What keeps a VMM that a guest has taken over from everything that is not its own.
//!
//! Several walls, each of which stands when another has a hole: an unprivileged user without capabilities, Landlock, a filter of system
//! calls, namespaces, a cgroup. [`prepare`] builds what this host can give in the parent, with words for what it cannot; the forked
//! child only walks in ([`Child::enter`]).

mod calls;
pub mod cgroup;
mod child;
mod devices;
mod files;
mod user;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

pub use child::Child;
pub use user::User;

/// How much of it a VM is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strictness {
    /// What this host can give.
    #[default]
    Auto,
    /// All, or it does not start.
    Strict,
    /// None.
    Off,
}

/// One wall, and whether it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name: `user`, `landlock`, `seccomp`, `namespaces`, `cgroup` or `no-new-privileges`.
    pub measure: String,
    /// What it is; absent when it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined_to: Option<String>,
    /// Why it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl Measure {
    /// From what was built, or why it was not.
    fn new<T>(measure: &str, built: &Result<T, String>, confined_to: impl FnOnce(&T) -> String) -> Measure {
        let (confined_to, missing) = match built {
            Ok(built) => (Some(confined_to(built)), None),
            Err(why) => (None, Some(why.clone())),
        };
        Measure { measure: measure.to_owned(), confined_to, missing }
    }
}

/// A file that the VMM is given.
#[derive(Debug, Clone, Copy)]
pub struct GivenFile<'a> {
    /// The open file.
    pub file: BorrowedFd<'a>,
    /// Whether it may be written.
    pub writable: bool,
}

/// What a VMM needs; it gets nothing else.
#[derive(Debug)]
pub struct Needs<'a> {
    /// Its program.
    pub program: &'a Path,
    /// Its own directory, below which it may do what it likes; `None` for one that has to find its files by name.
    pub home: Option<&'a Path>,
    /// The files of its VM.
    pub files: Vec<GivenFile<'a>>,
    /// Whether it runs its guest on KVM.
    pub kvm: bool,
    /// Whether it has a filter of its own that is stricter about io_uring than ours can be.
    pub io_uring: bool,
    /// What its cgroup is called.
    pub name: &'a str,
    /// The most memory for guest and VMM together, in bytes.
    pub memory: u64,
    /// The most threads.
    pub threads: u64,
}

/// What was built for a VMM.
#[derive(Debug)]
pub struct Confinement {
    /// What its process does before its program runs.
    pub child: Child,
    /// Descriptors for it, by the numbers where it expects them.
    pub descriptors: Vec<(OwnedFd, i32)>,
    /// What stands, and what could not be had.
    pub measures: Vec<Measure>,
    /// Its cgroup, to be removed when it has ended ([`cgroup::remove`]).
    pub cgroup: Option<PathBuf>,
}

/// The errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for with [`Strictness::Strict`] cannot be had.
    #[error("the VMM cannot be confined as strictly as was asked for: {0}")]
    NotStrict(String),
}

/// Builds what this host can give a VMM.
///
/// # Errors
/// When all of it is asked for and some cannot be had.
pub fn prepare(needs: &Needs<'_>, strictness: Strictness) -> Result<Confinement, Error> {
    let devices = devices::prepare(needs.kvm);
    let user = match needs.home {
        None => Err(user::BY_NAME.to_owned()),
        Some(home) => user::prepare(needs, home, devices.is_ok()),
    };
    let rules = match needs.home {
        None => Err(user::BY_NAME.to_owned()),
        Some(home) => files::prepare(needs, home, devices.as_ref().ok()),
    };
    let filters = calls::filters(needs.io_uring);
    let group = cgroup::make(needs.name, needs.memory, needs.threads);
    // The VM's files may be the user's already, also for a root who cannot become that user now.
    let is_root = rustix::process::geteuid().is_root();
    let capabilities =
        if is_root && user.is_err() { CapabilitySet::DAC_OVERRIDE } else { CapabilitySet::empty() };
    let privileges: Result<CapabilitySet, String> = Ok(capabilities);
    let measures = vec![
        Measure::new("user", &user, |user: &User| user.to_string()),
        Measure::new("no-new-privileges", &privileges, |capabilities| match capabilities.is_empty() {
            true => "no capabilities, no core dump".to_owned(),
            false => "no capability but to open root's and the VMs' files, no core dump".to_owned(),
        }),
        Measure::new("landlock", &rules, |rules| rules.describe()),
        Measure::new("seccomp", &filters, |_| calls::DESCRIPTION.to_owned()),
        Measure::new("namespaces", &devices, |_| devices::DESCRIPTION.to_owned()),
        Measure::new("cgroup", &group, |group| group.path.display().to_string()),
    ];
    let missing = measures
        .iter()
        .filter_map(|measure| Some(format!("{}: {}", measure.measure, measure.missing.as_ref()?)));
    let missing = missing.collect::<Vec<_>>().join("; ");
    if strictness == Strictness::Strict && !missing.is_empty() {
        if let Ok(group) = &group {
            cgroup::remove(&group.path);
        }
        return Err(Error::NotStrict(missing));
    }
    let mut descriptors = Vec::new();
    let cgroup = group.ok().map(|group| {
        descriptors.push((group.members, child::CGROUP_FD));
        group.path
    });
    descriptors.extend(devices.ok().map(|devices| (devices.mount, child::DEVICES_FD)));
    descriptors.extend(rules.ok().map(|rules| (rules.ruleset, child::RULES_FD)));
    let has = |number| descriptors.iter().any(|(_, of)| *of == number);
    let child = Child {
        cgroup: cgroup.is_some(),
        devices: has(child::DEVICES_FD),
        rules: has(child::RULES_FD),
        user: user.ok().filter(|_| is_root),
        capabilities,
        filters: filters.unwrap_or_default(),
    };
    Ok(Confinement { child, descriptors, measures, cgroup })
}

/// What this host could give a VMM of `program` on KVM, for people.
#[must_use]
pub fn survey() -> Vec<Measure> {
    let devices = devices::prepare(true);
    let user = user::of_this_host(devices.is_ok());
    vec![
        Measure::new("user", &user, |user: &User| user.to_string()),
        Measure::new("landlock", &files::version(), |version| format!("Landlock, version {version}")),
        Measure::new("seccomp", &calls::filters(false), |_| calls::DESCRIPTION.to_owned()),
        Measure::new("namespaces", &devices, |_| devices::DESCRIPTION.to_owned()),
        Measure::new("cgroup", &cgroup::place(), |place| place.display().to_string()),
    ]
}
