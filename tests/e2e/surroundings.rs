//! Environment of a program, as docker and podman have it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use hypeman_tests::fixtures::{bed, busybox_tar, directory, kernel};
use hypeman_tests::layout;
use hypeman_tests::needs::{BUSYBOX, QEMU};
use hypeman_tests::vm::Instance;

use crate::promises;

promises! {
    [QEMU, BUSYBOX]
        a_user_s_program,
        modules_of_the_kernel_and_limits,
        what_cannot_be_executed_is_told_why,
        a_supervisor_is_process_1_and_no_system,
        a_real_time_stop_signal,
        a_reboot_is_told_from_a_crash,
        a_guest_that_halts_ends_its_vm,
        a_stop_while_the_guest_boots_is_heard;
}

/// An ELF header for AArch64, as an executable.
const FOREIGN: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0";

/// The root filesystem of busybox with what images of services have in theirs.
fn rootfs() -> PathBuf {
    let tar = directory().join("service.tar");
    if !tar.exists() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("run/svc")).expect("a directory");
        std::fs::create_dir_all(at("var/log")).expect("a directory");
        std::os::unix::fs::symlink("/dev/stdout", at("var/log/access.log")).expect("a link");
        std::fs::write(at("foreign"), [FOREIGN, &[0; 40]].concat()).expect("a file");
        std::fs::write(at("script"), "#!/no/such/shell\n").expect("a file");
        let init = "#!/bin/sh\necho pid $$; tr '\\0' ' ' </proc/1/cmdline\nexit 9\n";
        std::fs::write(at("init"), init).expect("a file");
        let temporary = tar.with_extension("tmp");
        std::fs::copy(busybox_tar(), &temporary).expect("copy");
        let append = |owner: &str, names: &[&str]| {
            let mut command = Command::new("tar");
            command.arg("-C").arg(root.path()).args([
                "--mode=755",
                &format!("--owner={owner}"),
                &format!("--group={owner}"),
            ]);
            assert!(command.arg("-rf").arg(&temporary).args(names).status().expect("tar").success());
        };
        append("33", &["run/svc"]);
        append("0", &["var", "foreign", "script", "init"]);
        std::fs::rename(&temporary, &tar).expect("rename");
    }
    tar
}

/// The image of such a service, run by the user web.
fn image() -> &'static str {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        kernel();
        let layout = tempfile::tempdir().expect("a directory");
        let config = serde_json::json!({"User": "web", "WorkingDir": "tmp", "StopSignal": "SIGRTMIN+3"});
        layout::write(layout.path(), &rootfs(), &config);
        bed().ok(&["image", "import", "--name", "test/service", layout.path().to_str().expect("UTF-8")]);
    });
    "test/service"
}

fn a_user_s_program() {
    let script = "touch /run/svc/pid && echo /run is kept; pwd
        ifconfig lo | grep -o -e 127.0.0.1 -e '::1'
        echo logged >>/var/log/access.log
        [ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo no terminal
        echo error >&2; seq 60 | more | tail -1; seq 2 | more
        cat; echo stdin ended; ulimit -Sn; ulimit -Hn; id -G; printf last";
    let outcome = bed().run(&["run", "--rm", image(), "sh", "-c", script]);
    let expected = "/run is kept\n/tmp\n127.0.0.1\n::1\nlogged\nno terminal\nerror\n60\n1\n2\nstdin ended\n1048576\n1048576\n\
                    33\nlast";
    assert_eq!((outcome.stdout.as_str(), outcome.code), (expected, 0), "{outcome:?}");
}

fn modules_of_the_kernel_and_limits() {
    // By name, and by the kernel itself, for which nothing in the image has to know of modules.
    let script =
        "modprobe loop && ip link add d0 type dummy && grep -c -e '^loop ' -e '^dummy ' /proc/modules
        truncate -s 1M /disk && losetup -f /disk && losetup -a | cut -d: -f1; (exec 3<>/dev/net/tun) && echo tun
        touch /lib/modules/$(uname -r)/x 2>/dev/null || echo read-only
        echo '<0>an emergency that nobody has to see' >/dev/kmsg; ulimit -Sn; ulimit -Hn";
    let outcome =
        bed().run(&["run", "--rm", "-u", "root", "--ulimit", "nofile=100:200", image(), "sh", "-c", script]);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.code),
        ("2\n/dev/loop0\ntun\nread-only\n100\n200\n", 0),
        "{outcome:?}"
    );
    bed().fails(&["create", "--ulimit", "fish=1", image()], &["fish", "nofile"]);
}

fn what_cannot_be_executed_is_told_why() {
    for (program, code, words) in [("/foreign", 126, "exec format error"), ("/script", 127, "/no/such/shell")]
    {
        let outcome = bed().run(&["run", "--rm", image(), program]);
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(outcome.stderr.contains(words) && outcome.stderr.contains(program), "{outcome:?}");
        assert_eq!(outcome.stdout, "");
    }
}

fn a_supervisor_is_process_1_and_no_system() {
    let outcome = bed().run(&["run", "--rm", "-u", "root", image(), "/init"]);
    assert_eq!((outcome.stdout.as_str(), outcome.code), ("pid 1\n/bin/sh /init ", 9), "{outcome:?}");
}

fn a_real_time_stop_signal() {
    let script = "trap 'echo heard; exit 6' 37; echo ready; while :; do sleep 1; done";
    let vm = Instance::run(bed(), "real-time", &[image(), "sh", "-c", script]);
    let _ = vm.read_until("ready");
    bed().ok(&["stop", "-t", "60", "real-time"]);
    assert_eq!((vm.wait(), bed().ok(&["logs", "real-time"])), (6, "ready\nheard".to_owned()));
    let vm = Instance::run(bed(), "real-time-kill", &[image(), "sh", "-c", script]);
    let _ = vm.read_until("ready");
    bed().ok(&["kill", "-s", "RTMIN+3", "real-time-kill"]);
    assert_eq!(vm.wait(), 6);
}

fn a_reboot_is_told_from_a_crash() {
    let root = ["-u", "root", image(), "sh", "-c"];
    for hypervisor in ["qemu", "qemu-microvm"] {
        let name = format!("reboots-{hypervisor}");
        let reboot = [&["--hypervisor", hypervisor], &root[..], &["reboot -f"]].concat();
        let vm = Instance::run(bed(), &name, &reboot);
        assert_eq!(vm.wait(), 125);
        assert_eq!(bed().inspect(&name)["end"]["reason"], "guest-reset");
        assert_eq!(bed().ok(&["logs", &name]), "", "the kernel says nothing");
        let name = format!("crashes-{hypervisor}");
        let crash = [&["--hypervisor", hypervisor], &root[..], &["echo c >/proc/sysrq-trigger"]].concat();
        let vm = Instance::run(bed(), &name, &crash);
        assert_eq!(vm.wait(), 125);
        assert_eq!(bed().inspect(&name)["end"]["reason"], "guest-panic");
        assert!(bed().ok(&["logs", &name]).contains("Kernel panic"), "it says why");
    }
}

fn a_guest_that_halts_ends_its_vm() {
    let vm = Instance::run(bed(), "halts", &["--cpus", "2", "-u", "root", image(), "halt", "-f"]);
    assert_eq!(vm.wait(), 125);
    let end = &bed().inspect("halts")["end"];
    assert!(end["message"].as_str().expect("a message").contains("halted"), "{end}");
}

fn a_stop_while_the_guest_boots_is_heard() {
    let vm = Instance::run(bed(), "stopped-early", &["-u", "root", image(), "sleep", "1000"]);
    bed().ok(&["stop", "-t", "120", "stopped-early"]);
    // SIGRTMIN+3, as the image asks for: the program was there to be ended by it.
    assert_eq!(vm.wait(), 128 + 37);
}
