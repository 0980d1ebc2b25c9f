//! A Debian with systemd as PID 1.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hypeman_tests::console::{assert_no_hole, whole};
use hypeman_tests::fixtures::{bed, debian};
use hypeman_tests::logrotate::Logrotate;
use hypeman_tests::needs::{LOGROTATE, MMDEBSTRAP, Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [QEMU, MMDEBSTRAP, LOGROTATE, Need::Root] boots_logs_across_copytruncate_and_powers_off;
    [QEMU, MMDEBSTRAP, Need::Root]
        a_system_sleeps_and_wakes,
        a_system_that_hears_no_button_is_asked_by_its_agent;
}

/// The numbers that the service `traffic` printed, in the order of the log.
fn traffic(lines: &str) -> Vec<u64> {
    lines.lines().filter_map(|line| line.split_once("traffic ")?.1.trim().parse().ok()).collect()
}

fn boots_logs_across_copytruncate_and_powers_off() {
    let arguments = ["--memory", "1g", "--show-boot", "--cmdline", "printk.devkmsg=on", debian()];
    let vm = Instance::run(bed(), "debian", &arguments);
    let _ = vm.read_until("traffic 20");
    let app_log = vm.directory().join("logs/app.log");
    let old = tempfile::tempdir().expect("a directory");
    Logrotate::new(&app_log, &format!("rotate 1\nolddir {}", old.path().display())).run();
    let last = traffic(&std::fs::read_to_string(&app_log).unwrap_or_default()).last().copied().unwrap_or(20);
    let _ = vm.read_until(&format!("traffic {}", last + 20));
    bed().ok(&["stop", "-t", "120", "debian"]);

    let log = String::from_utf8_lossy(&std::fs::read(&app_log).expect("read the log")).into_owned();
    assert_no_hole(&app_log);
    let numbers = traffic(&log);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a number is missing: {numbers:?}");
    assert!(log.contains("reboot: Power down"), "no clean end: {log}");
    let inspected = bed().inspect("debian");
    assert_eq!(
        (&inspected["end"]["reason"], &inspected["end"]["exit_code"]),
        (&"guest-shutdown".into(), &0.into())
    );
}

fn a_system_sleeps_and_wakes() {
    let arguments = ["--memory", "1g", "--show-boot", "--cmdline", "printk.devkmsg=on", debian()];
    let vm = Instance::run(bed(), "debian-sleeps", &arguments);
    let _ = vm.read_until("traffic 20");
    let app_log = vm.directory().join("logs/app.log");
    let log = || String::from_utf8_lossy(&whole(&app_log)).into_owned();
    for _ in 0..2 {
        bed().ok(&["standby", "debian-sleeps"]);
        let last = traffic(&log()).last().copied().expect("a number");
        // So long that a clock which stands still meanwhile is seen to be wrong.
        std::thread::sleep(Duration::from_secs(3));
        bed().ok(&["restore", "debian-sleeps"]);
        until("it goes on", || traffic(&log()).last().is_some_and(|now| *now > last + 10));
        until("its clock is right", || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
            clock(&log()).is_some_and(|time| time.abs_diff(now) <= 1)
        });
    }
    bed().ok(&["stop", "-t", "120", "debian-sleeps"]);
    let numbers = traffic(&log());
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a number is missing: {numbers:?}");
    assert!(log().contains("reboot: Power down"), "no clean end");
}

/// The time that the service printed last.
fn clock(log: &str) -> Option<u64> {
    log.lines().rev().find_map(|line| line.split_once("clock ")?.1.trim().parse().ok())
}

fn a_system_that_hears_no_button_is_asked_by_its_agent() {
    // Nobody there listens to the button, as in an image without dbus and udev.
    let words = "systemd.mask=systemd-logind.service systemd.mask=dbus.service systemd.mask=dbus.socket printk.devkmsg=on";
    let arguments = ["--memory", "1g", "--show-boot", "--cmdline", words, debian()];
    let vm = Instance::run(bed(), "debian-asked", &arguments);
    assert!(bed().ok(&["exec", "debian-asked", "cat", "/proc/1/cmdline"]).starts_with("/sbin/init"));
    let _ = vm.read_until("traffic 5");
    // Its init cannot lose the agent, nor can whoever kills it.
    let list = bed().ok(&["top", "--format", "json", "debian-asked"]);
    let agent = list.lines().find(|line| line.ends_with("agent\"}")).expect("an agent").to_owned();
    let agent: serde_json::Value = serde_json::from_str(&agent).expect("JSON");
    let _ = bed().run(&["exec", "debian-asked", "sh", "-c", &format!("kill -9 {}", agent["pid"])]);
    assert_eq!(bed().ok(&["exec", "debian-asked", "systemctl", "is-active", "traffic"]), "active");
    // A signal is its init's: here the one by which systemd says more in its log (systemd(1)).
    bed().ok(&["kill", "-s", "RTMIN+22", "debian-asked"]);
    until("it says more", || {
        bed().run(&["exec", "debian-asked", "systemctl", "log-level"]).stdout == "debug\n"
    });
    bed().ok(&["stop", "-t", "120", "debian-asked"]);
    assert_eq!(bed().inspect("debian-asked")["end"]["reason"], "guest-shutdown");
    let log = String::from_utf8_lossy(&whole(&vm.log())).into_owned();
    assert!(log.contains("reboot: Power down"), "no clean end: {log}");
}
