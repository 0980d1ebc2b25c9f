//! The Debian package, in a Debian that has not seen hypeman.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hypeman_tests::console::{assert_counted, whole};
use hypeman_tests::container::{Container, package};
use hypeman_tests::fixtures::{bed, busybox, busybox_tar};
use hypeman_tests::needs::{BUSYBOX, CARGO_DEB, LINTIAN, MMDEBSTRAP, Need, QEMU};
use hypeman_tests::vm::COUNTING;
use hypeman_tests::wait::until;
use serde_json::{Value, json};

use crate::promises;

promises! {
    [QEMU, BUSYBOX, MMDEBSTRAP, CARGO_DEB, LINTIAN, Need::Root, Need::NetworkNamespaces, Need::Cgroups]
        it_is_installed_used_upgraded_and_purged;
}

/// Packages on which ours depends, and those that the test uses.
const PACKAGES: &str = "qemu-system-x86,e2fsprogs,squashfs-tools-ng,kmod,curl,procps";

fn it_is_installed_used_upgraded_and_purged() {
    let scratch = tempfile::tempdir().expect("a directory");
    let packages = ["0.1.0-1", "0.1.1-1"].map(|version| {
        let path = scratch.path().join(format!("hypeman_{version}_amd64.deb"));
        package(&path, version);
        path
    });
    let mut lint = Command::new("lintian");
    lint.args(["--allow-root", "--fail-on", "error,warning"]).arg(&packages[0]);
    let lint = lint_output(&mut lint);
    assert_eq!(lint, (true, String::new()));

    let debian = Container::boot(PACKAGES);
    let before = found(&debian);
    for (package, name) in packages.iter().zip(["old.deb", "new.deb"]) {
        std::fs::copy(package, debian.path("root").join(name)).expect("copy the package");
    }
    debian.ok(&["dpkg", "--install", "/root/old.deb"]);
    assert_eq!(debian.ok(&["systemctl", "is-active", "hypeman.service"]), "active");
    let configuration = debian.path("etc/hypeman/config.yaml");
    let mode = std::fs::metadata(&configuration).expect("a configuration").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = std::fs::read_to_string(&configuration).expect("a configuration");

    let vmm = run_an_image(&debian);
    assert_server_comes_and_goes(&debian);
    debian.ok(&["dpkg", "--install", "/root/new.deb"]);
    assert!(debian.ok(&["dpkg", "--status", "hypeman"]).contains("Version: 0.1.1-1"));
    assert_eq!(debian.ok(&["systemctl", "is-active", "hypeman.service"]), "active");
    assert_eq!(std::fs::read_to_string(&configuration).expect("a configuration"), secret);
    goes_on(&debian, &vmm);

    debian.ok(&["dpkg", "--remove", "hypeman"]);
    assert_counted(&log(&debian, &vmm));
    debian.ok(&["dpkg", "--purge", "hypeman"]);
    assert_eq!(found(&debian), before, "something is left");
    let processes = debian.ok(&["ps", "-eo", "args"]);
    assert!(!processes.contains("hypeman") && !processes.contains("qemu"), "{processes}");
    assert_eq!(debian.ok(&["systemctl", "is-system-running"]), "running");
}

fn lint_output(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("lintian");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Files that are called after hypeman, outside of what the kernel shows.
fn found(debian: &Container) -> String {
    debian.ok(&["find", "/", "-xdev", "-name", "*hypeman*", "-not", "-path", "/root/*"])
}

/// A VM as `inspect` shows it.
fn inspect(debian: &Container) -> Value {
    serde_json::from_str::<Value>(&debian.ok(&["hypeman", "inspect", "kept"])).expect("JSON")[0].take()
}

fn log(debian: &Container, vm: &Value) -> std::path::PathBuf {
    debian.path(&format!("var/lib/hypeman/instances/{}/logs/app.log", vm["id"].as_str().expect("an id")))
}

/// Imports an image and asks the server to run it.
fn run_an_image(debian: &Container) -> Value {
    std::fs::copy(busybox_tar(), debian.path("root/busybox.tar")).expect("copy the image");
    debian.ok(&["hypeman", "image", "import", "--name", "app:1", "/root/busybox.tar"]);
    let _ = busybox(); // its kernel
    let kernels = debian.path("var/lib/hypeman/kernels");
    let copied = Command::new("cp").arg("-rT").arg(bed().data_dir.join("kernels")).arg(&kernels).status();
    assert!(copied.expect("cp").success());
    let request = json!({
        "name": "kept", "image": "app:1", "size": "128MB", "overlay_size": "64MB", "vcpus": 1, "cmd": COUNTING,
        "network": {"enabled": false},
    });
    let (status, made) = ask(debian, "POST", "/instances", &request.to_string());
    assert_eq!(status, "201", "{made}");
    debian.ok(&["hypeman", "wait", "--for", "running", "--timeout", "120", "kept"]);
    inspect(debian)
}

/// Asks the server for an operation; the status, and the answer.
fn ask(debian: &Container, method: &str, path: &str, body: &str) -> (String, String) {
    let authorization = format!("Authorization: Bearer {}", debian.ok(&["hypeman", "token"]));
    let url = format!("http://127.0.0.1:4973{path}");
    let answer = debian.ok(&[
        "curl",
        "-s",
        "-w",
        "\n%{http_code}",
        "-X",
        method,
        "-H",
        &authorization,
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
        &url,
    ]);
    let (answer, status) = answer.rsplit_once('\n').expect("a status");
    (status.to_owned(), answer.to_owned())
}

/// The VM runs in the same process, and prints.
fn goes_on(debian: &Container, vm: &Value) {
    let now = inspect(debian);
    assert_eq!((&now["state"], &now["run"]["vmm"]), (&json!("Running"), &vm["run"]["vmm"]));
    let length = || whole(&log(debian, vm)).len();
    let before = length();
    until("it prints on", || length() > before);
}

/// A server that ends, is killed, or comes by its socket leaves the VM alone.
fn assert_server_comes_and_goes(debian: &Container) {
    let vm = inspect(debian);
    debian.ok(&["systemctl", "stop", "hypeman.service"]);
    goes_on(debian, &vm);
    debian.ok(&["systemctl", "start", "hypeman.socket"]);
    assert_eq!(debian.run(&["systemctl", "is-active", "hypeman.service"]).stdout, b"inactive\n");
    assert_eq!(ask(debian, "GET", "/instances/kept", "").0, "200");
    assert_eq!(debian.ok(&["systemctl", "is-active", "hypeman.service"]), "active");
    debian.ok(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "hypeman.service"]);
    until("it was started again", || ask_quietly(debian) == "200");
    goes_on(debian, &vm);
    debian.ok(&["systemctl", "stop", "hypeman.socket"]);
    debian.ok(&["systemctl", "restart", "hypeman.service"]);
    // It runs at boot.
    debian.ok(&["systemctl", "start", "hypeman-resume.service"]);
    goes_on(debian, &vm);
}

/// The status of a request that may not be answered.
fn ask_quietly(debian: &Container) -> String {
    let url = "http://127.0.0.1:4973/health";
    let output = debian.run(&["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
