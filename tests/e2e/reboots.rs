//! A guest that reboots is booted again where it is a system, and has ended where it is a program.

use std::path::Path;
use std::process::Command;

use hypeman_tests::ch::programs;
use hypeman_tests::console::{boots, whole};
use hypeman_tests::fixtures::{bed, busybox, busybox_tar, kernel};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{DEADLINE, within};
use testguest::Finish;
use testguest::check::Sequence;

use crate::promises;

promises! {
    [QEMU, BUSYBOX]
        a_system_that_reboots_is_booted_again,
        a_program_that_reboots_has_ended;
    [QEMU, Need::CloudHypervisor]
        a_log_goes_on_through_reboots;
}

/// An image whose init, on the first boot, reboots as `reboot` does.
fn system(scratch: &Path) -> &'static str {
    let root = scratch.join("root");
    std::fs::create_dir_all(root.join("sbin")).expect("a directory");
    std::fs::create_dir_all(root.join("etc")).expect("a directory");
    std::os::unix::fs::symlink("../bin/busybox", root.join("sbin/init")).expect("a link");
    let inittab = "::sysinit:/bin/sh /etc/boot\n::ctrlaltdel:/bin/poweroff\n";
    let boot =
        "[ -e /booted ] && echo 'second boot' && exit\ntouch /booted\nsync\necho 'first boot'\nreboot\n";
    std::fs::write(root.join("etc/inittab"), inittab).expect("write");
    std::fs::write(root.join("etc/boot"), boot).expect("write");
    kernel();
    let tar = scratch.join("system.tar");
    std::fs::copy(busybox_tar(), &tar).expect("copy");
    let added = Command::new("tar").arg("-rf").arg(&tar).arg("-C").arg(&root).args(["sbin", "etc"]).status();
    assert!(added.expect("tar").success());
    bed().ok(&[
        "image",
        "import",
        "--name",
        "test/system",
        "--cmd",
        "/sbin/init",
        tar.to_str().expect("UTF-8"),
    ]);
    "test/system"
}

fn a_system_that_reboots_is_booted_again() {
    let scratch = tempfile::tempdir().expect("a directory");
    let image = system(scratch.path());
    let vm = Instance::run(bed(), "reboots", &[image]);
    let (shim, first) = (vm.pid("shim"), bed().inspect("reboots")["run"]["started"].clone());
    let printed = vm.read_until("second boot");
    assert!(printed.iter().any(|line| line.contains("first boot")), "{printed:?}");
    let run = &bed().inspect("reboots")["run"];
    assert_eq!((&run["reboots"], &run["started"]), (&1.into(), &first));
    assert_eq!(vm.pid("shim"), shim);
    bed().ok(&["rm", "-f", "reboots"]);

    let vm = Instance::run(bed(), "reboots-not", &["--on-reboot", "stop", image]);
    assert_eq!(vm.wait(), 0, "an orderly reboot is no failure");
    let inspected = bed().inspect("reboots-not");
    assert_eq!(
        (&inspected["end"]["reason"], &inspected["run"]["reboots"]),
        (&"guest-reset".into(), &0.into())
    );
}

fn a_program_that_reboots_has_ended() {
    bed().fails(&["create", "--on-reboot", "restart", busybox(), "true"], &["restart", "--on-reboot"]);
    let outcome =
        bed().run(&["run", "--name", "exec-reboots", busybox(), "sh", "-c", "echo once; reboot -f"]);
    let _vm = Instance::named(bed(), "exec-reboots");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (125, "once\n"), "{outcome:?}");
    assert_eq!(bed().inspect("exec-reboots")["end"]["reason"], "guest-reset");
}

/// The test guest, which knows no more than to reboot, on each VMM.
fn a_log_goes_on_through_reboots() {
    let on = |program: &str| {
        ["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", program].map(str::to_owned).to_vec()
    };
    let machines = programs().iter().map(|program| on(program)).chain([Vec::new()]);
    for machine in machines {
        let arguments: Vec<&str> =
            machine.iter().map(String::as_str).chain(["--on-reboot", "restart"]).collect();
        let guest = Guest::new(bed(), "again").lines(20).finish(Finish::Reset).with(&arguments);
        let options = guest.options();
        let vm = guest.run();
        let shim = vm.pid("shim");
        let thrice = within(DEADLINE, || {
            let reboots = bed().inspect("again")["run"]["reboots"].as_u64();
            reboots.is_some_and(|reboots| reboots >= 3).then_some(())
        });
        let journal = || bed().ok(&["logs", "--source", "hypeman", "again"]);
        assert!(thrice.is_some(), "{arguments:?}: {} {}", bed().inspect("again"), journal());
        assert_eq!(vm.pid("shim"), shim, "under the same shim");
        bed().ok(&["kill", "again"]);
        let log = whole(&vm.directory().join("logs/app.log"));
        let boots = boots(&log);
        assert!(boots.len() >= 3, "{} boots", boots.len());
        for (index, boot) in boots.iter().enumerate() {
            let lines = Sequence::new(&options).check(boot).unwrap_or_else(|broken| panic!("{broken:?}"));
            assert!(lines == (0..20) || index + 1 == boots.len(), "boot {index}: {lines:?}");
        }
        assert!(journal().contains("the guest rebooted"));
    }
}
