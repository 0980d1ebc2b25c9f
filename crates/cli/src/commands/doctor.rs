//! doctor: what this machine has, lacks, and how to mend it. Everything is tried, not looked at.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use hypeman_instance::accelerator;
use hypeman_vmm::kvm::{KvmState, probe_kvm};
use hypeman_vmm::qemu::CpuFeatures;
use hypeman_vmm::spec::HypervisorKind;
use serde::Serialize;

use crate::args::Format;
use crate::context::{Context, programs};
use crate::output;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Missing,
    Broken,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    verdict: Verdict,
    /// What was found.
    detail: String,
    /// What to do, when something is to be done.
    advice: Option<String>,
    /// Whether VMs can do without.
    optional: bool,
}

/// Prints the report; fails when something that no VM can do without is not ok.
pub(crate) fn doctor(context: &Context, cloud_hypervisor: Option<&Path>, format: Format) -> Result<ExitCode> {
    let mut checks = vmms(cloud_hypervisor);
    checks.push(kvm());
    checks.extend(qemu_on_kvm(&context.data_dir));
    checks.push(host_kernel());
    checks.push(data_dir(&context.data_dir));
    checks.push(init());
    checks.push(guest_kernel(context));
    checks.extend(tools());
    output::list(format, &["CHECK", "VERDICT", "DETAIL", "WHAT TO DO"], &checks, |check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Missing => "missing",
            Verdict::Broken => "broken",
        };
        let advice = check.advice.clone().unwrap_or_default();
        vec![check.name.clone(), verdict.to_owned(), output::short(&check.detail, 200), advice]
    })?;
    let well = checks.iter().all(|check| check.optional || check.verdict == Verdict::Ok);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

fn vmms(cloud_hypervisor: Option<&Path>) -> Vec<Check> {
    let vmm = |name, kind, path| match hypeman_vmm::hypervisor(kind).discover(path) {
        Ok(program) => check(name, Verdict::Ok, format!("{} {}", program.path.display(), program.version)),
        Err(error) => check(name, Verdict::Missing, error.to_string()),
    };
    vec![
        vmm("qemu", HypervisorKind::Qemu, None),
        vmm("cloud-hypervisor", HypervisorKind::CloudHypervisor, cloud_hypervisor).optional(),
    ]
}

fn kvm() -> Check {
    let slow = "QEMU falls back to TCG, which is slow";
    match probe_kvm() {
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

/// With which CPU features QEMU's KVM works, where it can be tried at all.
fn qemu_on_kvm(data_dir: &Path) -> Option<Check> {
    if matches!(probe_kvm(), KvmState::Missing(_)) {
        return None;
    }
    let qemu = hypeman_vmm::hypervisor(HypervisorKind::Qemu).discover(None).ok()?;
    let tried = hypeman_vmm::qemu::cpu_features(&qemu, &accelerator::memory(data_dir));
    let check = match tried {
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

/// Whether the data directory can really be written.
fn data_dir(path: &Path) -> Check {
    let tried = std::fs::create_dir_all(path).and_then(|()| {
        let probe = path.join(format!(".doctor-{}", std::process::id()));
        std::fs::write(&probe, b"x")?;
        std::fs::remove_file(&probe)
    });
    match tried {
        Ok(()) => {
            let free = rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
            let detail = format!("{} is writable, {} free", path.display(), crate::size::show(free));
            check("data directory", Verdict::Ok, detail)
        }
        Err(error) => check("data directory", Verdict::Broken, format!("{}: {error}", path.display()))
            .advice("give another with --data-dir or HYPEMAN_DATA_DIR, or make this one yours"),
    }
}

fn init() -> Check {
    match programs() {
        Ok(programs) => check("init", Verdict::Ok, programs.init.display().to_string()),
        Err(error) => check("init", Verdict::Missing, error.to_string()),
    }
}

fn guest_kernel(context: &Context) -> Check {
    match context.kernels.get(None) {
        Ok(kernel) => check("guest kernel", Verdict::Ok, kernel.version),
        Err(error) => {
            check("guest kernel", Verdict::Missing, error.to_string()).advice("hypeman kernel pull")
        }
    }
}

/// The programs of others that we call, each with what it is for.
fn tools() -> Vec<Check> {
    let tool = |name: &'static str, package: &str, purpose: &str| match hypeman_image::find_tool(name) {
        Some(path) => check(name, Verdict::Ok, path.display().to_string()),
        None => check(name, Verdict::Missing, format!("needed to {purpose}"))
            .advice(&format!("apt-get install {package}")),
    };
    vec![
        tool("mke2fs", "e2fsprogs", "make the writable disks"),
        tool("tar2sqfs", "squashfs-tools-ng", "make disks from images"),
        tool("apt-get", "apt", "pull kernels").optional(),
        tool("dpkg-deb", "dpkg", "pull kernels").optional(),
        tool("depmod", "kmod", "index the modules of kernels").optional(),
    ]
}
