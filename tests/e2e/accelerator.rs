//! KVM is tried, and the user gets a VM.

use std::os::unix::fs::PermissionsExt;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::needs::{Need, QEMU, find};
use hypeman_tests::vm::Instance;
use testguest::Options;

use crate::promises;

promises! {
    [QEMU, Need::QemuKvm] a_kvm_that_refuses_a_cpu_feature_runs_vms_without_it;
}

/// As on an AMD host with Linux 6.18: QEMU aborts on KVM unless `arch-capabilities` is left out.
fn a_kvm_that_refuses_a_cpu_feature_runs_vms_without_it() {
    let scratch = tempfile::tempdir().expect("a directory");
    let qemu = scratch.path().join("qemu");
    let real = find("qemu-system-x86_64").expect("QEMU");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *-arch-capabilities*) ;; *'-accel kvm'*)\n\
         echo 'qemu: error: failed to set MSR 0x10a to 0x0' >&2; kill -ABRT $$;; esac\nexec {} \"$@\"\n",
        real.display()
    );
    std::fs::write(&qemu, text).expect("write");
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let bed = Bed::new(&scratch.path().join("data")).with("HYPEMAN_QEMU", &qemu);

    let cmdline = Options { count: 3, ..Options::default() }.to_string();
    let arguments = ["--accel", "kvm", "--kernel", testguest(), "--memory", "32m", "--cmdline", &cmdline];
    let vm = Instance::run(&bed, "refused", &arguments);
    assert_eq!(vm.wait(), 0);
    assert_eq!(bed.ok(&["logs", "refused"]).lines().count(), 3);
    let journal = bed.ok(&["logs", "--source", "hypeman", "refused"]);
    assert!(journal.contains("without arch-capabilities") && journal.contains("MSR 0x10a"), "{journal}");
    let doctor = bed.run(&["doctor", "--format", "json"]).stdout;
    let line = doctor.lines().find(|line| line.contains("\"qemu on kvm\"")).expect("a line of its own");
    assert!(line.contains("without arch-capabilities") && line.contains("MSR 0x10a"), "{line}");
}
