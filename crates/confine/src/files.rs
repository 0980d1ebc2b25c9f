//! Landlock: which files a VMM may open, whatever user it runs as, and that it signals nobody
//! outside.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

use crate::devices::Devices;
use crate::needs::Needs;

/// The newest version whose rights we know.
const NEWEST: ABI = ABI::V6;

/// Where programs, their libraries and their data are on a host, for all to read.
const SYSTEM: [&str; 8] =
    ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/nix/store", "/gnu/store"];

/// Files about the host's processors and memory that a program may read.
const HOST: [&str; 4] = ["/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm", "/sys/devices/system"];

/// The devices of the host, where there are none of a VMM's own.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/kvm"];

/// Rules, as the kernel has them.
pub(crate) struct Rules {
    pub(crate) ruleset: OwnedFd,
    version: i32,
}

impl Rules {
    pub(crate) fn describe(&self) -> String {
        let signals = if self.version >= 6 { "; signals nobody outside" } else { "" };
        format!("its directory, its files, its program and its devices (version {}){signals}", self.version)
    }
}

/// The version of Landlock that the kernel has, as far as we know them: the newest whose rules it
/// takes.
pub(crate) fn version() -> Result<i32, String> {
    let is_taken = |version: &ABI| {
        let all = || {
            let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            let mut rules = rules.handle_access(AccessFs::from_all(*version))?;
            if *version >= ABI::V4 {
                rules = rules.handle_access(AccessNet::from_all(*version))?;
            }
            if *version >= ABI::V6 {
                rules = rules.scope(Scope::from_all(*version))?;
            }
            rules.create()
        };
        all().is_ok()
    };
    let known = [ABI::V6, ABI::V5, ABI::V4, ABI::V3, ABI::V2, ABI::V1];
    let version = known.into_iter().find(is_taken);
    version
        .map(|version| version as i32)
        .ok_or_else(|| "the kernel has no Landlock, or it is not enabled (lsm=)".to_owned())
}

/// Rules for a VMM, whose devices lie in `devices` if it has some of its own.
pub(crate) fn prepare(needs: &Needs<'_>, home: &Path, devices: Option<&Devices>) -> Result<Rules, String> {
    let version = version()?;
    let rules =
        rules(needs, home, devices).map_err(|error| format!("Landlock's rules cannot be made: {error}"))?;
    let ruleset = Option::<OwnedFd>::from(rules).ok_or("the kernel takes no rules of Landlock's")?;
    Ok(Rules { ruleset, version })
}

fn rules(
    needs: &Needs<'_>,
    home: &Path,
    devices: Option<&Devices>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let read = AccessFs::from_read(NEWEST);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for path in SYSTEM.map(PathBuf::from).into_iter().chain(of_program(needs.program)) {
        rules = beneath(rules, &path, read)?;
    }
    for path in HOST.map(Path::new) {
        rules = beneath(rules, path, read & !AccessFs::Execute)?;
    }
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    rules = beneath(rules, home, AccessFs::from_all(NEWEST) & !never)?;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    match devices {
        Some(devices) => {
            for node in &devices.nodes {
                rules = rules.add_rule(PathBeneath::new(node, device))?;
            }
        }
        None => {
            let needed = DEVICES.iter().filter(|device| needs.kvm || **device != "/dev/kvm");
            for path in needed.map(Path::new) {
                rules = beneath(rules, path, device)?;
            }
        }
    }
    for file in needs.files {
        let write = AccessFs::WriteFile | AccessFs::Truncate;
        let access = if file.writable { write | AccessFs::ReadFile } else { AccessFs::ReadFile.into() };
        rules = rules.add_rule(PathBeneath::new(&file.file, access))?;
    }
    Ok(rules)
}

/// Allows something below a path, if that is there.
fn beneath(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    // Files have fewer rights than directories.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(opened, access))
}

/// A program and what belongs to it, when it is not where the system's programs are: its libraries
/// and data beside `bin`, or those of the tree in which QEMU was built.
fn of_program(program: &Path) -> Vec<PathBuf> {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let mut paths = vec![program.to_owned(), real.clone()];
    if let Some(directory) = real.parent() {
        if directory.file_name().is_some_and(|name| name == "bin" || name == "sbin") {
            paths.extend(["lib", "lib64", "share", "libexec"].map(|name| directory.with_file_name(name)));
        }
        paths.extend(["qemu-bundle", "pc-bios"].map(|name| directory.join(name)));
    }
    paths
}
