//! Checks this host's requirements by trial, with advice.

use std::path::Path;

use hypeman_network::Finding;
use hypeman_record::confinement::Measure;
use hypeman_record::spec::{CpuFeatures, HypervisorKind};
use hypeman_record::state::State;
use hypeman_vmm::findings::Findings;
use hypeman_vmm::kvm::{KvmState, probe_kvm};
use hypeman_vmm::qemu::try_features;
use serde::Serialize;

use crate::host::Host;
use crate::instance::Instance;
use crate::observe::{Observation, observe_all};

/// Whether this host has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is here, and works.
    Ok,
    /// It is not here.
    Missing,
    /// It is here, and does not work.
    Broken,
}

/// Result of one check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Name of the requirement.
    pub name: String,
    /// Whether it is here.
    pub verdict: Verdict,
    /// The finding.
    pub detail: String,
    /// Advice, if something is to be done.
    pub advice: Option<String>,
    /// Whether VMs can do without.
    pub optional: bool,
}

impl Host {
    /// Checks what this host has. `cloud_hypervisor` is a program to be tried in place of the one
    /// that is found.
    #[must_use]
    pub fn check(&self, cloud_hypervisor: Option<&Path>) -> Vec<Check> {
        let mut checks = vmms(cloud_hypervisor);
        checks.push(kvm());
        checks.extend(qemu_on_kvm());
        checks.push(host_kernel());
        checks.extend(confinement());
        let (instances, _) = self.list().unwrap_or_default(); // the data directory has a check of its own
        let seen: Vec<_> = observe_all(&instances).into_iter().map(Result::ok).collect();
        let vms =
            || instances.iter().zip(&seen).filter_map(|(instance, seen)| Some((instance, seen.as_ref()?)));
        checks.extend(vms().filter_map(|(instance, seen)| confined(instance, seen)));
        checks.extend(vms().filter_map(|(instance, seen)| sleeper(self, instance, seen)));
        checks.extend(networks(self));
        checks.push(data_dir(self.data_dir().path()));
        checks.push(init(self));
        checks.push(guest_kernel(self));
        checks.extend(tools());
        checks
    }
}

fn check(name: &str, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), verdict, detail: detail.into(), advice: None, optional: false }
}

impl Check {
    fn advice(self, advice: &str) -> Check {
        Check { advice: Some(advice.to_owned()), ..self }
    }

    fn optional(self) -> Check {
        Check { optional: true, ..self }
    }
}

/// Says how to get a program that an error of the VMM drivers misses.
#[must_use]
pub fn how_to_get(error: &hypeman_vmm::Error) -> Option<String> {
    let hypeman_vmm::Error::NotInstalled { program } = error else { return None };
    let way = match *program {
        "qemu-system-x86_64" => "apt-get install qemu-system-x86, or set HYPEMAN_QEMU",
        "cloud-hypervisor" => {
            "get it from github.com/cloud-hypervisor/cloud-hypervisor/releases and set --cloud-hypervisor PATH or \
             HYPEMAN_CLOUD_HYPERVISOR, or use --hypervisor qemu"
        }
        _ => return None,
    };
    Some(way.to_owned())
}

fn vmms(cloud_hypervisor: Option<&Path>) -> Vec<Check> {
    let vmm = |name, kind, path| match hypeman_vmm::hypervisor(kind).discover(path, &Findings::none()) {
        Ok(program) => check(name, Verdict::Ok, format!("{} {}", program.path.display(), program.version)),
        Err(error) => {
            let advice = how_to_get(&error);
            Check { advice, ..check(name, Verdict::Missing, error.to_string()) }
        }
    };
    vec![
        vmm("qemu", HypervisorKind::Qemu, None),
        vmm("cloud-hypervisor", HypervisorKind::CloudHypervisor, cloud_hypervisor).optional(),
    ]
}

fn kvm() -> Check {
    let slow = "QEMU falls back to TCG, which is slow";
    match probe_kvm(&Findings::none()) {
        KvmState::Works => check("kvm", Verdict::Ok, "tried: the instructions that Linux needs run"),
        KvmState::Missing(why) => check("kvm", Verdict::Missing, why).advice(&format!(
            "{slow}; load kvm_intel or kvm_amd, and let this user open /dev/kvm (group kvm)"
        )),
        KvmState::Broken(why) => check("kvm", Verdict::Broken, why).advice(&format!(
            "{slow}; on a nested host, have the outer hypervisor pass virtualization through"
        )),
    }
    .optional()
}

/// Checks with which CPU features QEMU's KVM works, if it can be tried.
fn qemu_on_kvm() -> Option<Check> {
    if matches!(probe_kvm(&Findings::none()), KvmState::Missing(_)) {
        return None;
    }
    let qemu = hypeman_vmm::hypervisor(HypervisorKind::Qemu).discover(None, &Findings::none()).ok()?;
    let check = match try_features(&qemu) {
        Ok(CpuFeatures { why: None, .. }) => {
            check("qemu on kvm", Verdict::Ok, "tried: with all features of the CPU")
        }
        Ok(CpuFeatures { left_out, why: Some(why) }) => check(
            "qemu on kvm",
            Verdict::Ok,
            format!("tried: without {}, because {why}", left_out.join(", ")),
        ),
        Err(error) => {
            check("qemu on kvm", Verdict::Broken, error.to_string()).advice("--accel auto runs VMs on TCG")
        }
    };
    Some(check.optional())
}

fn host_kernel() -> Check {
    let uname = rustix::system::uname();
    let detail = format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
    check("host kernel", Verdict::Ok, detail)
}

/// Checks the parts of the sandbox.
fn confinement() -> impl Iterator<Item = Check> {
    hypeman_confine::survey().into_iter().map(|Measure { measure, confined_to, missing }| {
        let name = format!("confine {measure}");
        match missing {
            None => check(&name, Verdict::Ok, confined_to.unwrap_or_default()),
            Some(why) => check(&name, Verdict::Missing, why).optional(),
        }
    })
}

/// Checks how VMs can be connected. They can do without.
fn networks(host: &Host) -> impl Iterator<Item = Check> {
    let used = hypeman_network::survey_networks(&host.networks(), &host.data_dir().instances());
    hypeman_network::survey().into_iter().chain(used).map(|Finding { what, found, advice }| {
        let found = match found {
            Ok(found) => check(what, Verdict::Ok, found),
            Err(why) => check(what, Verdict::Missing, why),
        };
        Check { advice, ..found }.optional()
    })
}

/// Checks the sandbox of a running VM.
fn confined(instance: &Instance, seen: &Observation) -> Option<Check> {
    let runs = matches!(seen.state, State::Initializing | State::Running | State::Paused);
    let run = seen.run.as_ref().filter(|_| runs)?;
    let name = format!("vm {}", instance.record.name);
    if let Some(reason) = seen.reason.as_ref().filter(|_| seen.state == State::Running) {
        return Some(check(&name, Verdict::Broken, reason).optional());
    }
    if run.confinement.is_empty() {
        return Some(check(&name, Verdict::Missing, "it is not confined").optional());
    }
    let (had, missing): (Vec<_>, Vec<_>) =
        run.confinement.iter().partition(|measure| measure.missing.is_none());
    let had = had.iter().map(|measure| measure.measure.as_str()).collect::<Vec<_>>().join(", ");
    let missing = missing.iter().map(|measure| {
        format!("; without {}: {}", measure.measure, measure.missing.as_deref().unwrap_or_default())
    });
    let detail = format!("confined by {had}{}", missing.collect::<String>());
    Some(check(&name, Verdict::Ok, detail))
}

/// Checks whether a VM in standby could be restored here.
fn sleeper(host: &Host, instance: &Instance, seen: &Observation) -> Option<Check> {
    if seen.state != State::Standby {
        return None;
    }
    let why = host.hindrance(instance)?;
    let name = &instance.record.name;
    let advice = format!(
        "install that program again, and then `hypeman restore {name}`; or give its memory up: `hypeman kill {name}`"
    );
    let check = check(&format!("vm {name}"), Verdict::Broken, format!("asleep, and cannot go on: {why}"));
    Some(check.advice(&advice).optional())
}

/// Checks whether the data directory can be written.
fn data_dir(path: &Path) -> Check {
    let tried = std::fs::create_dir_all(path).and_then(|()| {
        let probe = path.join(format!(".doctor-{}", std::process::id()));
        std::fs::write(&probe, b"x")?;
        std::fs::remove_file(&probe)
    });
    match tried {
        Ok(()) => {
            let free = rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
            let free = free as f64 / f64::from(1 << 30);
            let detail = format!("{} is writable, {free:.1} GiB free", path.display());
            check("data directory", Verdict::Ok, detail)
        }
        Err(error) => check("data directory", Verdict::Broken, format!("{}: {error}", path.display()))
            .advice("give another with --data-dir or HYPEMAN_DATA_DIR, or make this one yours"),
    }
}

fn init(host: &Host) -> Check {
    match host.programs() {
        Ok(programs) => check("init", Verdict::Ok, programs.init.display().to_string()),
        Err(error) => check("init", Verdict::Missing, error.to_string()),
    }
}

fn guest_kernel(host: &Host) -> Check {
    match host.kernel(None) {
        Ok(kernel) => check("guest kernel", Verdict::Ok, kernel.version),
        Err(error) => {
            check("guest kernel", Verdict::Missing, error.to_string()).advice("hypeman kernel pull")
        }
    }
}

/// Checks the programs that we call, each with its purpose.
fn tools() -> Vec<Check> {
    let tool = |name: &'static str, package: &str, purpose: &str| match hypeman_image::find_tool(name) {
        Some(path) => check(name, Verdict::Ok, path.display().to_string()),
        None => check(name, Verdict::Missing, format!("needed to {purpose}"))
            .advice(&format!("apt-get install {package}")),
    };
    vec![
        tool("mke2fs", "e2fsprogs", "make the writable disks"),
        tool("tar2sqfs", "squashfs-tools-ng", "make disks from images"),
        tool("gensquashfs", "squashfs-tools-ng", "give guests the modules of their kernel"),
        tool("apt-get", "apt", "pull kernels").optional(),
        tool("dpkg-deb", "dpkg", "pull kernels").optional(),
        tool("depmod", "kmod", "index the modules of kernels").optional(),
    ]
}
