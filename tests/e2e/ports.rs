//! A guest's published ports can be reached on the host, and from outside, where it was asked for.

use std::path::Path;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{self, busybox, directory};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::netns::{HOST, Host, OUTSIDE, probe, serve};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{eventually, until};
use rustix::process::{Pid, Signal, kill_process};
use testguest::Finish;

use crate::network::idle;
use crate::promises;

/// Network of VMs without privileges.
const PASST: Need = Need::Tool { name: "passt", package: "passt" };

promises! {
    [Need::NetworkNamespaces, QEMU, BUSYBOX]
        a_web_server_in_a_guest_answers_on_loopback_and_outside,
        datagrams_go_both_ways,
        a_port_that_is_taken_is_told_before_the_vm_starts,
        what_an_image_exposes_is_published_on_free_ports,
        ports_outlive_the_shim;
    [Need::NetworkNamespaces, QEMU, PASST] a_guest_that_reboots_keeps_its_network;
    [Need::NetworkNamespaces, QEMU, BUSYBOX, PASST, Need::Root]
        user_mode_does_the_same_without_privileges;
}

/// The words by which a web server in a guest is started.
const SERVER: [&str; 7] = ["httpd", "-f", "-p", "80", "-h", "/", "-vv"];

/// Returns a page of the guest's, as seen on the host or outside.
fn page(host: &Host, from_outside: bool, authority: &str) -> Option<String> {
    let arguments = ["get", authority, "/etc/hostname"];
    let mut command = match from_outside {
        true => host.command_outside(&probe(), &arguments),
        false => host.command(&probe(), &arguments),
    };
    let output = command.output().expect("a page");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn a_web_server_in_a_guest_answers_on_loopback_and_outside() {
    let host = Host::new();
    let run = |name: &str, ports: &[&str]| {
        let image = [busybox()];
        Instance::run(host.bed(), name, &[ports, &image, &SERVER].concat())
    };
    let _everywhere = run("everywhere", &["-p", "8080:80"]);
    let outside = format!("{HOST}:8080");
    for (from_outside, authority) in
        [(false, "127.0.0.1:8080"), (false, "[::1]:8080"), (false, &outside), (true, &outside)]
    {
        let seen = eventually(authority, || page(&host, from_outside, authority));
        assert_eq!(seen, "everywhere", "{authority}");
    }
    let _local = run("local", &["-p", "127.0.0.1:8081:80", "-p", "[::1]:8082:80"]);
    let _outside = run("outside", &["-p", &format!("{HOST}:8081:80")]);
    let of = |name: &str, from_outside, authority: &str| {
        assert_eq!(eventually(authority, || page(&host, from_outside, authority)), name, "{authority}");
    };
    of("local", false, "127.0.0.1:8081");
    of("local", false, "[::1]:8082");
    of("outside", true, &format!("{HOST}:8081"));
    of("outside", false, &format!("{HOST}:8081"));
    assert_eq!(host.bed().ok(&["port", "local"]), "80/tcp -> 127.0.0.1:8081\n80/tcp -> [::1]:8082");
    assert_eq!(host.bed().ok(&["port", "everywhere", "80"]), "0.0.0.0:8080");
    host.bed().fails(&["port", "everywhere", "81"], &["everywhere", "81"]);
    // The guest sees who asks, from outside.
    let seen = host.bed().ok(&["logs", "outside"]);
    assert!(seen.contains("198.51.100.2"), "{seen}");
}

fn datagrams_go_both_ways() {
    let host = Host::new();
    let vm = idle(&host, "echo", &["-p", "5300:53/udp"]);
    vm.bed.ok(&["exec", "-d", "echo", "/probe", "echo", "udp", "0.0.0.0:53"]);
    for (from_outside, whom) in
        [(false, "127.0.0.1:5300"), (false, "[::1]:5300"), (true, &*format!("{HOST}:5300"))]
    {
        let probe = probe();
        let arguments = ["ask", "udp", whom, "question"];
        let ask = || match from_outside {
            true => host.command_outside(&probe, &arguments).output().expect("ask"),
            false => host.command(&probe, &arguments).output().expect("ask"),
        };
        until(whom, || String::from_utf8_lossy(&ask().stdout).trim() == "question");
    }
    assert_eq!(vm.bed.ok(&["port", "echo"]), "53/udp -> 0.0.0.0:5300");
}

fn a_port_that_is_taken_is_told_before_the_vm_starts() {
    let host = Host::new();
    let bed = host.bed();
    let (_theirs, _) = serve(host.command(&probe(), &["echo", "tcp", "127.0.0.1:8080"]));
    let run = |port: &str| bed.run(&["run", "-d", "--name", "late", "-p", port, busybox(), "sleep", "1000"]);
    let refused = run("8080:80");
    assert_ne!(refused.code, 0);
    let told = bed.clone().with("HYPEMAN_ERROR_FORMAT", "json");
    let told = told.run(&["run", "-d", "-p", "8080:80", busybox(), "sleep", "1000"]).stderr;
    let failure: serde_json::Value =
        serde_json::from_str(told.lines().last().unwrap_or_default()).expect("an error as JSON");
    assert_eq!(failure["code"], "port-taken", "{told}");
    for word in ["8080/tcp", "it is in use"] {
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
    assert!(bed.instance_directories().is_empty(), "nothing is left of it");
    let hypeman = |text: String| text.contains("dport") || text.contains("hype-");
    assert!(!hypeman(host.interfaces().join(" ")), "{:?}", host.interfaces());
    assert_eq!(run("127.0.0.2:8080:80").code, 0, "at another address it is free");
    let taken_by_us = bed.run(&["run", "-d", "-p", "127.0.0.2:8080:81", busybox(), "sleep", "1000"]);
    assert!(taken_by_us.code != 0 && taken_by_us.stderr.contains("127.0.0.2"), "{taken_by_us:?}");
    for (port, word) in
        [("80:80:80:80", "80"), ("::1:80:80", "brackets"), ("70000:80", "no port"), ("80/sctp", "sctp")]
    {
        bed.fails(&["create", "-p", port, busybox()], &[port, word]);
    }
    bed.fails(&["create", "-p", "1:1", "-p", "1:2", busybox()], &["twice"]);
    bed.fails(&["create", "--network", "none", "-p", "1:1", busybox()], &["no network"]);
}

fn what_an_image_exposes_is_published_on_free_ports() {
    let host = Host::new();
    let image = exposing();
    let vm = Instance::run(host.bed(), "exposed", &[&["-P", &image], &SERVER[..]].concat());
    let ports = vm.bed.ok(&["port", "exposed"]);
    assert_eq!(ports.lines().count(), 2, "{ports}");
    let http = vm.bed.ok(&["port", "exposed", "80"]);
    let port = http.rsplit(':').next().expect("a port");
    assert_eq!(eventually("the page", || page(&host, true, &format!("{HOST}:{port}"))), "exposed");
}

/// An image that says which ports it has.
fn exposing() -> String {
    use std::process::Command;
    let _ = busybox();
    let name = "test/exposing";
    let bed = hypeman_tests::fixtures::bed();
    if bed.run(&["image", "inspect", name]).code != 0 {
        let scratch = tempfile::tempdir_in(directory()).expect("a directory");
        let tar = hypeman_tests::fixtures::busybox_tar();
        let layer = scratch.path().join("layer.tar");
        std::fs::copy(tar, &layer).expect("copy");
        let sum = Command::new("sha256sum").arg(&layer).output().expect("sha256sum").stdout;
        let sum = String::from_utf8_lossy(&sum).split(' ').next().expect("a sum").to_owned();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}}},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
        });
        let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [format!("{name}:latest")], "Layers": ["layer.tar"]}]);
        for (file, value) in [("config.json", config), ("manifest.json", manifest)] {
            std::fs::write(scratch.path().join(file), value.to_string()).expect("write");
        }
        let archive = scratch.path().join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(scratch.path()).arg("-cf").arg(&archive).args([
            "manifest.json",
            "config.json",
            "layer.tar",
        ]);
        assert!(tar.status().expect("tar").success());
        bed.ok(&["image", "import", archive.to_str().expect("UTF-8")]);
    }
    name.to_owned()
}

fn ports_outlive_the_shim() {
    let host = Host::new();
    let image = [busybox()];
    let vm = Instance::run(host.bed(), "kept", &[&["-p", "8080:80"], &image[..], &SERVER].concat());
    let (inside, outside) = ("127.0.0.1:8080", format!("{HOST}:8080"));
    eventually("the page", || page(&host, false, inside));
    vm.kill("shim");
    assert_eq!(page(&host, true, &outside).as_deref(), Some("kept"), "the kernel needs no shim for it");
    vm.bed.ok(&["adopt", "kept"]);
    assert_eq!(eventually("the page", || page(&host, false, inside)), "kept");
    assert_eq!(vm.bed.ok(&["port", "kept"]), "80/tcp -> 0.0.0.0:8080");
    vm.bed.ok(&["upgrade-shims", "kept"]);
    assert_eq!(eventually("the page", || page(&host, false, inside)), "kept");
    vm.bed.ok(&["stop", "-t", "0", "kept"]);
    assert!(page(&host, true, &outside).is_none() && page(&host, false, inside).is_none());
    assert!(!host.rules().contains("8080"), "{}", host.rules());
}

fn a_guest_that_reboots_keeps_its_network() {
    let host = Host::new();
    for (network, port) in [("default", "9000:80"), ("user", "9001:80")] {
        let guest = Guest::new(host.bed(), network).lines(1000).finish(Finish::Reset);
        let vm = guest.with(&["--on-reboot", "restart", "--network", network, "-p", port]).run();
        until("it reboots", || {
            vm.bed.inspect(network)["run"]["reboots"].as_u64().is_some_and(|count| count >= 3)
        });
        assert!(vm.state() == "Running" || vm.state() == "Initializing", "{}", vm.state());
        assert_eq!(vm.bed.ok(&["port", network]), format!("80/tcp -> 0.0.0.0:{}", &port[..4]));
        let log = std::fs::read_to_string(vm.directory().join("logs/hypeman.log")).expect("the log");
        assert!(!log.contains("no network any more") && !log.contains("cannot bind"), "{log}");
    }
}

fn user_mode_does_the_same_without_privileges() {
    const USER: u32 = 60123;
    let host = Host::new();
    let files = tempfile::tempdir_in(directory()).expect("a directory");
    std::fs::write(files.path().join("file"), "downloaded\n").expect("a file");
    let _servers = host.serve_outside(files.path());
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = bed_of(USER, &host, scratch.path());
    // Without privileges it is the usual network.
    let vm = Instance::run(
        &bed,
        "user",
        &[&["-p", "8080:80", "-p", "5300:53/udp", busybox()], &SERVER[..]].concat(),
    );
    assert_eq!(bed.inspect("user")["network"]["connection"], "user");
    assert_eq!(bed.ok(&["exec", "user", "wget", "-q", "-O", "-", "http://files.test/file"]), "downloaded");
    for (from_outside, authority) in [(false, "127.0.0.1:8080"), (true, &*format!("{HOST}:8080"))] {
        assert_eq!(eventually(authority, || page(&host, from_outside, authority)), "user");
    }
    bed.ok(&["cp", &probe(), "user:/probe"]);
    bed.ok(&["exec", "-d", "user", "/probe", "echo", "udp", "0.0.0.0:53"]);
    // Not to the host's own loopback address: docs/limits.md.
    let ask = || host.command_outside(&probe(), &["ask", "udp", &format!("{HOST}:5300"), "x"]).output();
    until("a datagram comes back", || ask().is_ok_and(|output| output.stdout == b"x\n"));
    // The gateway is not the host's loopback.
    let (_local, _) = serve(host.command(&probe(), &["echo", "tcp", "127.0.0.1:7002"]));
    assert_ne!(bed.run(&["exec", "user", "/probe", "ask", "tcp", "10.0.2.2:7002", "x"]).code, 0);
    let refused = bed.run(&["run", "-d", "-p", "8080:81", busybox(), "sleep", "1000"]);
    assert!(refused.code != 0 && refused.stderr.contains("8080/tcp"), "{refused:?}");
    bed.fails(&["create", "--network", "default", busybox()], &["CAP_NET_ADMIN", "default"]);
    bed.fails(
        &["create", "--hypervisor", "cloud-hypervisor", "--network", "user", busybox()],
        &["bridges only"],
    );
    drop(vm);
    until("passt has gone", || passts(USER).is_empty());
    a_passt_that_was_killed_is_told(&bed, USER);
}

/// The host's first DNS server, named with `--dns`, answers by UDP and by TCP; then its passt is
/// killed.
fn a_passt_that_was_killed_is_told(bed: &Bed, user: u32) {
    let _vm = Instance::run(bed, "bereft", &["--dns", OUTSIDE, busybox(), "sleep", "100000"]);
    assert_eq!(bed.ok(&["exec", "bereft", "cat", "/etc/resolv.conf"]), format!("nameserver {OUTSIDE}"));
    assert_eq!(bed.ok(&["exec", "bereft", "wget", "-q", "-O", "-", "http://files.test/file"]), "downloaded");
    // The question for the address of files.test (RFC 1035 4.2.2: its length before it). Debian
    // 12's passt does not always tell the guest that the server has closed: nc is not waited for.
    let question =
        r"\000\034\022\064\001\000\000\001\000\000\000\000\000\000\005files\004test\000\000\001\000\001";
    let by_tcp = format!("printf '{question}' | timeout 10 nc {OUTSIDE} 53 | grep -c files");
    assert_eq!(bed.ok(&["exec", "bereft", "sh", "-c", &by_tcp]), "1");
    for pid in passts(user) {
        kill_process(pid, Signal::KILL).expect("kill -9 passt");
    }
    until("it is told", || {
        bed.inspect("bereft")["state_reason"].as_str().is_some_and(|why| why.contains("passt"))
    });
    assert!(bed.ok(&["ps"]).contains("no network"), "{}", bed.ok(&["ps"]));
    let doctor = bed.run(&["doctor"]);
    assert!(doctor.stdout.contains("bereft"), "{doctor:?}");
}

/// The passts of a user.
fn passts(user: u32) -> Vec<Pid> {
    let output = std::process::Command::new("pgrep").args(["-u", &user.to_string(), "passt"]).output();
    let pids = String::from_utf8(output.expect("pgrep").stdout).expect("UTF-8");
    pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// hypeman for a user on this host, in a directory with copies of all that it needs.
fn bed_of(user: u32, host: &Host, scratch: &Path) -> Bed {
    let _ = busybox();
    let shared = fixtures::bed();
    let run = |program: &str, arguments: &[&str]| {
        let status = std::process::Command::new(program).args(arguments).status().expect(program);
        assert!(status.success(), "{program} {arguments:?}");
    };
    let to = scratch.to_str().expect("UTF-8");
    for program in ["hypeman", "hypeman-init"] {
        run("cp", &[shared.hypeman.with_file_name(program).to_str().expect("UTF-8"), to]);
    }
    for store in ["images", "kernels"] {
        run("cp", &["-a", shared.data_dir.join(store).to_str().expect("UTF-8"), to]);
    }
    run("chown", &["-R", &user.to_string(), to]);
    run("chmod", &["755", to]);
    let bed = Bed::new(scratch).of(scratch.join("hypeman")).with("HYPEMAN_NETWORK", "");
    bed.in_namespace(host.namespace()).as_user(user)
}
