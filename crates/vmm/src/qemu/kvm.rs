//! Whether QEMU's KVM takes a set of CPU features: tried, not assumed.
//!
//! `-cpu max` offers the guest all that the host's KVM lists, and some KVMs refuse what they list.
//! QEMU then aborts as it puts a vCPU into its first state: on AMD hosts with Linux 6.18, QEMU 7.2
//! dies with "failed to set MSR 0x10a" (that is IA32_ARCH_CAPABILITIES). So a QEMU is started with
//! a stopped VM, and with fewer features until one comes up.

use std::process::Output;
use std::time::Duration;

use hypeman_record::program::Program;
use hypeman_record::spec::CpuFeatures;

use super::arguments;
use crate::error::{Error, Result};
use crate::findings::{Findings, key_of_program};

/// Timeout for a trial.
const TRIAL: Duration = Duration::from_secs(30);

/// Sets of CPU features to leave out, in the order of trials. The last ones are features that few
/// guests miss: virtualization within the VM, and performance counters.
const LEFT_OUT: [&[&str]; 3] = [&[], &["arch-capabilities"], &["arch-capabilities", "vmx", "svm", "pmu"]];

/// The CPU features with which `program` runs VMs on this host's KVM. A trial takes some 50 ms; its
/// result is remembered.
///
/// # Errors
/// [`Error::NoKvm`] with QEMU's words when it does not run on KVM at all.
pub(crate) fn cpu_features(program: &Program, findings: &Findings) -> Result<CpuFeatures> {
    match key_of_program("cpu features", &program.path) {
        Some(key) => findings.find_once(&key, || try_features(program)),
        None => try_features(program),
    }
}

/// Tries one set of features after the other.
///
/// # Errors
/// [`Error::NoKvm`] with QEMU's words when it does not come up with any.
pub fn try_features(program: &Program) -> Result<CpuFeatures> {
    let mut why = None;
    for set in LEFT_OUT {
        let left_out: Vec<String> = set.iter().map(|&feature| feature.to_owned()).collect();
        match refusal(program, &left_out) {
            None => return Ok(CpuFeatures { left_out, why }),
            Some(refusal) => why = why.or(Some(refusal)),
        }
    }
    Err(Error::NoKvm { path: program.path.clone(), reason: why.unwrap_or_default() })
}

/// Brings up a VM that never runs, and ends it. Tells why, when it did not come up.
fn refusal(program: &Program, left_out: &[String]) -> Option<String> {
    let mut command = hypeman_process::program(&program.path);
    command.args([
        "-S",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-m",
        "16M",
    ]);
    command.args(["-accel", "kvm", "-cpu", &arguments::cpu(left_out), "-qmp", "stdio"]);
    let quit = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";
    match hypeman_process::run(&mut command, quit, TRIAL) {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(last_words(&output)),
        Err(error) => Some(error.to_string()),
    }
}

/// The first line that QEMU printed of its failure, which is the cause; what follows is where it
/// gave up.
fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => line.to_owned(),
        None => output.status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// A QEMU in whose KVM `condition` fails.
    fn qemu(directory: &Path, condition: &str) -> Program {
        let path = directory.join("qemu");
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in {condition}) echo 'qemu: error: failed to set MSR 0x10a to 0x0' >&2\n\
             echo 'qemu: kvm_buf_set_msrs: Assertion failed' >&2; exit 134;; esac\ncat >/dev/null\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Program { path, version: "7.2.22".to_owned() }
    }

    #[test]
    fn what_kvm_refuses_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let features = try_features(&qemu(directory.path(), "*'-cpu max '*")).unwrap();
        assert_eq!(features.left_out, ["arch-capabilities"]);
        assert_eq!(features.why.as_deref(), Some("qemu: error: failed to set MSR 0x10a to 0x0"));
    }

    #[test]
    fn a_kvm_that_takes_all_is_given_all() {
        let directory = tempfile::tempdir().unwrap();
        let program = qemu(directory.path(), "never");
        let features = try_features(&program).unwrap();
        assert_eq!(features, CpuFeatures { left_out: Vec::new(), why: None });
    }

    #[test]
    fn a_qemu_that_never_comes_up_is_named_with_its_words_and_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let program = qemu(directory.path(), "*");
        let findings = Findings::in_directory(directory.path());
        let error = cpu_features(&program, &findings).unwrap_err().to_string();
        assert!(error.contains("MSR 0x10a") && error.contains(program.path.to_str().unwrap()), "{error}");
        assert!(!directory.path().join("host.json").exists());
    }
}
