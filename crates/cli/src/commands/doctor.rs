//! doctor: what this machine has, lacks, and how to mend it. Everything is tried, not looked at.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use hypeman_instance::instance::Instance;
use hypeman_instance::observe::{Observation, observe_all};
use hypeman_instance::standby;
use hypeman_network::Finding;
use hypeman_record::confinement::Measure;
use hypeman_record::data_dir::DataDir;
use hypeman_record::spec::{CpuFeatures, HypervisorKind};
use hypeman_record::state::State;
use hypeman_vmm::findings::Findings;
use hypeman_vmm::kvm::{KvmState, probe_kvm};
use hypeman_vmm::qemu::try_features;
use serde::Serialize;

use crate::args::Format;
use crate::context::{Context, programs};
use crate::escape::short;
use crate::{hints, output};

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
    checks.extend(qemu_on_kvm());
    checks.push(host_kernel());
    checks.extend(confinement());
    let (instances, _) = context.instances.list().unwrap_or_default(); // the data directory has a check of its own
    let seen: Vec<_> = observe_all(&instances).into_iter().map(std::result::Result::ok).collect();
    let vms = || instances.iter().zip(&seen).filter_map(|(instance, seen)| Some((instance, seen.as_ref()?)));
    checks.extend(vms().filter_map(|(instance, seen)| confined(instance, seen)));
    checks.extend(vms().filter_map(|(instance, seen)| sleeper(context, instance, seen)));
    checks.extend(networks(context));
    checks.push(data_dir(&context.data_dir));
    checks.push(init());
    checks.push(guest_kernel(context));
    checks.extend(tools());
    let well = checks.iter().all(|check| check.optional || check.verdict == Verdict::Ok);
    match format {
        Format::Json | Format::Template(_) => output::list(format, &[], &checks, |_| Vec::new())?,
        Format::Table => {
            checks.iter().flat_map(report).try_for_each(|line| output::line(&line))?;
            let summary = if well {
                "All that VMs need is here."
            } else {
                "Something that VMs need is not here: see above."
            };
            output::line(summary)?;
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Columns of the report, and of its parts.
const WIDTH: usize = 100;
const NAME_WIDTH: usize = 20;
const VERDICT_WIDTH: usize = 10;

/// The lines that tell of a check; words longer than a line, paths, are left whole.
fn report(check: &Check) -> Vec<String> {
    let verdict = match (check.verdict, check.optional) {
        (Verdict::Ok, _) => "ok",
        (Verdict::Missing, false) => "missing",
        (Verdict::Broken, false) => "broken",
        // Its detail tells why; it is no fault that something is not there which VMs can do without.
        (Verdict::Missing, true) => "optional",
        (Verdict::Broken, true) => "unusable",
    };
    let indent = " ".repeat(NAME_WIDTH + VERDICT_WIDTH);
    let first = format!("{:NAME_WIDTH$}{verdict:VERDICT_WIDTH$}", check.name);
    let wrap = |text: &str, first: &str| {
        let options = textwrap::Options::new(WIDTH).initial_indent(first).subsequent_indent(&indent);
        let options = options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect::<Vec<_>>()
    };
    let detail = wrap(&short(&check.detail, 400), &first);
    let advice = check.advice.as_ref().map(|advice| wrap(advice, &format!("{indent}-> ")));
    detail.into_iter().chain(advice.into_iter().flatten()).collect()
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
    let vmm = |name, kind, path| match hypeman_vmm::hypervisor(kind).discover(path, &Findings::none()) {
        Ok(program) => check(name, Verdict::Ok, format!("{} {}", program.path.display(), program.version)),
        Err(error) => {
            let advice = hints::vmm(&error);
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

/// With which CPU features QEMU's KVM works, where it can be tried at all.
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

/// What can keep a VMM from this host.
fn confinement() -> impl Iterator<Item = Check> {
    hypeman_confine::survey().into_iter().map(|Measure { measure, confined_to, missing }| {
        let name = format!("confine {measure}");
        match missing {
            None => check(&name, Verdict::Ok, confined_to.unwrap_or_default()),
            Some(why) => check(&name, Verdict::Missing, why).optional(),
        }
    })
}

/// How VMs can be connected. They can do without.
fn networks(context: &Context) -> impl Iterator<Item = Check> {
    let networks = hypeman_network::Networks::new(&context.data_dir);
    let used = hypeman_network::survey_networks(&networks, &DataDir::new(&context.data_dir).instances());
    hypeman_network::survey().into_iter().chain(used).map(|Finding { what, found, way_out }| {
        let found = match found {
            Ok(found) => check(what, Verdict::Ok, found),
            Err(why) => check(what, Verdict::Missing, why),
        };
        Check { advice: way_out, ..found }.optional()
    })
}

/// Confinement of a VM that runs.
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

/// A VM in standby that could not go on here.
fn sleeper(context: &Context, instance: &Instance, seen: &Observation) -> Option<Check> {
    if seen.state != State::Standby {
        return None;
    }
    let why = standby::hindrance(&context.instances, instance)?;
    let name = &instance.record.name;
    let advice = format!(
        "install that program again, and then `hypeman restore {name}`; or give its memory up: `hypeman kill {name}`"
    );
    let check = check(&format!("vm {name}"), Verdict::Broken, format!("asleep, and cannot go on: {why}"));
    Some(check.advice(&advice).optional())
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
        tool("gensquashfs", "squashfs-tools-ng", "give guests the modules of their kernel"),
        tool("apt-get", "apt", "pull kernels").optional(),
        tool("dpkg-deb", "dpkg", "pull kernels").optional(),
        tool("depmod", "kmod", "index the modules of kernels").optional(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_fits_a_terminal_and_keeps_paths_whole() {
        let path = format!("/{}", "long/".repeat(20));
        let check =
            check("qemu on kvm", Verdict::Broken, format!("{path} 7.2.22: {}", "a few words ".repeat(20)))
                .advice(&"do something about it ".repeat(10))
                .optional();
        let lines = report(&check);
        assert!(lines[0].starts_with("qemu on kvm         unusable"), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains(&path)));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH || line.contains(&path)), "{lines:#?}");
    }
}
