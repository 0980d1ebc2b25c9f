//! Health checks, as docker makes them.

use hypeman_tests::fixtures::{bed, busybox_tar};
use hypeman_tests::needs::{BUSYBOX, QEMU};
use hypeman_tests::vm::{IDLE, Instance};
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [QEMU, BUSYBOX]
        a_program_is_healthy_then_not_and_then_again,
        a_check_that_takes_too_long_has_failed_and_is_gone,
        an_image_s_checks_are_made_unless_they_are_not_to_be;
}

fn health(name: &str) -> serde_json::Value {
    bed().inspect(name)["health"].clone()
}

fn a_program_is_healthy_then_not_and_then_again() {
    let check = "echo looked; test ! -e /sick";
    let flags = ["--health-cmd", check, "--health-interval", "100ms", "--health-retries", "2"];
    let vm = Instance::idle(bed(), "health", &flags);
    until("it is healthy", || health("health")["status"] == "healthy");
    assert_eq!(
        (&health("health")["output"], &health("health")["exit_code"]),
        (&"looked\n".into(), &0.into())
    );
    assert!(bed().ok(&["ps"]).lines().any(|line| line.contains("health") && line.contains("(healthy)")));
    bed().ok(&["exec", "health", "touch", "/sick"]);
    until("it is not", || health("health")["status"] == "unhealthy");
    assert!(health("health")["failures"].as_u64().is_some_and(|failures| failures >= 2));
    assert!(bed().ok(&["ps"]).contains("(unhealthy)"));
    // It is known also to those who come after its shim.
    vm.kill("shim");
    until("it is known again", || health("health")["status"] == "unhealthy");
    bed().ok(&["exec", "health", "rm", "/sick"]);
    until("it is healthy again", || health("health")["status"] == "healthy");
    bed().ok(&["stop", "health"]);
    assert!(health("health").is_null(), "of what does not run nothing is told");
}

fn a_check_that_takes_too_long_has_failed_and_is_gone() {
    let flags = [
        "--health-cmd",
        "sleep 3456",
        "--health-interval",
        "50ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
    ];
    let _vm = Instance::idle(bed(), "health-slow", &flags);
    until("it has failed", || health("health-slow")["status"] == "unhealthy");
    assert_eq!(health("health-slow")["exit_code"], 124);
    let list = bed().ok(&["top", "health-slow"]);
    assert!(list.matches("sleep 3456").count() <= 2, "one with its shell: {list}");
}

fn an_image_s_checks_are_made_unless_they_are_not_to_be() {
    let image = "test/health";
    let scratch = tempfile::tempdir().expect("a directory");
    let layout = scratch.path().join("layout");
    let check = serde_json::json!({"Test": ["CMD-SHELL", "exit 5"], "Interval": 50_000_000, "Retries": 1});
    let config = serde_json::json!({"Cmd": IDLE, "Healthcheck": check});
    hypeman_tests::layout::write(&layout, &busybox_tar(), &config);
    bed().ok(&["image", "import", "--name", image, layout.to_str().expect("UTF-8")]);
    let _vm = Instance::run(bed(), "health-image", &[image]);
    until("it was looked at", || health("health-image")["exit_code"] == 5);
    let _none = Instance::run(bed(), "health-none", &["--no-healthcheck", image]);
    assert!(bed().inspect("health-none")["command"]["health"].is_null());
    assert!(health("health-none").is_null());
}
