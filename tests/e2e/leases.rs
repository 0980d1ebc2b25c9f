//! Addresses, TAPs and rules: kept as long as they are somebody's, and gone with them.

use std::collections::HashSet;

use hypeman_tests::ch::on_each;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::netns::{HOST, Host, probe};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{eventually, until};

use crate::network::{address, guest, idle};
use crate::promises;

promises! {
    [Need::NetworkNamespaces]
        two_hundred_vms_at_once_get_two_hundred_addresses;
    [Need::NetworkNamespaces, QEMU]
        fifty_vms_started_and_removed_at_once_leave_nothing,
        nothing_is_left_of_what_was_killed,
        a_start_that_fails_leaves_nothing,
        limits_are_the_kernels;
    [Need::NetworkNamespaces, Need::CloudHypervisor]
        cloud_hypervisor_has_a_tap_over_sleep_and_fork;
    [Need::NetworkNamespaces, QEMU, BUSYBOX]
        standby_and_restore_keep_an_open_connection,
        standby_and_restore_keep_one_on_microvm,
        a_fork_has_an_address_of_its_own_at_once,
        vms_on_a_network_of_their_own_know_each_other_by_name;
}

/// Asserts that nothing of VMs is in the kernel.
pub(crate) fn assert_nothing_left(host: &Host) {
    let interfaces = host.interfaces();
    assert!(!interfaces.iter().any(|name| name.starts_with("hyp") && name != "hypeman0"), "{interfaces:?}");
    let rules = host.rules();
    assert!(!rules.contains("hype-") && !rules.contains("elements = { tcp"), "{rules}");
}

fn two_hundred_vms_at_once_get_two_hundred_addresses() {
    let host = Host::new();
    let bed = host.bed();
    let create = ["create", "--network", "default", "--kernel", testguest()];
    let made: Vec<_> = (0..200)
        .map(|_| bed.command(&create).stdout(std::process::Stdio::null()).spawn().expect("hypeman create"))
        .collect();
    for mut child in made {
        assert!(child.wait().expect("its end").success());
    }
    let told: serde_json::Value =
        serde_json::from_str(&bed.ok(&["network", "inspect", "default"])).expect("JSON");
    let members = told[0]["instances"].as_array().expect("instances");
    let different = |field: &str| {
        members
            .iter()
            .map(|member| member[field].as_str().expect(field).to_owned())
            .collect::<HashSet<_>>()
            .len()
    };
    assert_eq!((members.len(), different("address"), different("mac")), (200, 200, 200));
    bed.fails(&["network", "rm", "default"], &["default", "in use by"]);
}

fn fifty_vms_started_and_removed_at_once_leave_nothing() {
    let host = Host::new();
    let bed = host.bed();
    let names: Vec<String> = (0..50).map(|number| format!("vm-{number}")).collect();
    let run = |name: &String| {
        let port = format!("{}:80", 9000 + name[3..].parse::<u32>().expect("a number"));
        let guest = Guest::new(bed, name).quiet().with(&["--network", "default", "-p", &port]);
        let arguments = guest.arguments();
        let all: Vec<&str> = ["run", "-d"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        bed.ok(&all);
    };
    std::thread::scope(|scope| names.iter().for_each(|name| drop(scope.spawn(|| run(name)))));
    let taps = host.interfaces().iter().filter(|name| name.starts_with("hype-")).count();
    assert_eq!((taps, host.rules().matches("hook ingress").count()), (50, 50));
    std::thread::scope(|scope| {
        names.iter().for_each(|name| drop(scope.spawn(|| drop(bed.ok(&["rm", "-f", name])))));
    });
    assert_nothing_left(&host);
    assert!(bed.instance_directories().is_empty());
}

fn nothing_is_left_of_what_was_killed() {
    let host = Host::new();
    let bed = host.bed();
    let run =
        |name: &str| Guest::new(bed, name).quiet().with(&["--network", "default", "-p", "9000:80"]).run();
    let vm = run("killed");
    vm.kill("vmm");
    assert_eq!(vm.wait(), 137);
    until("the shim has removed what it had", || !host.rules().contains("hype-"));
    assert_nothing_left(&host);
    bed.ok(&["start", "killed"]);
    let kill_both = || {
        for process in ["shim", "vmm"] {
            vm.kill(process);
        }
        until("the interface goes with the last who has it", || {
            !host.interfaces().iter().any(|name| name.starts_with("hype-"))
        });
    };
    kill_both();
    until("whoever looks removes the rest", || {
        bed.ok(&["ps", "-q"]).is_empty() && !host.rules().contains("hype-")
    });
    assert_nothing_left(&host);
    // A host that was rebooted has none of it, and all of it again.
    bed.ok(&["start", "killed"]);
    kill_both();
    assert_eq!(host.run("ip", &["link", "del", "hypeman0"]).code, 0);
    assert_eq!(host.run("nft", &["flush", "ruleset"]).code, 0);
    bed.ok(&["start", "killed"]);
    assert_eq!(host.rules().matches("hook ingress").count(), 1, "{}", host.rules());
    drop(vm);
    assert_nothing_left(&host);
}

fn a_start_that_fails_leaves_nothing() {
    let host = Host::new();
    let guest = Guest::new(host.bed(), "fails").quiet().with(&["--network", "default", "-p", "9000:80"]);
    let vm = guest.create();
    let broken = host.directory().join("qemu");
    std::fs::write(&broken, "#!/bin/sh\n[ \"$1\" = --version ] && echo QEMU emulator version 7.2.0\n")
        .expect("a program");
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let bed = host.bed().clone().with("HYPEMAN_QEMU", &broken);
    bed.fails(&["start", "fails"], &["fails"]);
    assert_nothing_left(&host);
    host.bed().ok(&["start", "fails"]);
    assert_eq!(vm.state(), "Running");
}

fn limits_are_the_kernels() {
    let host = Host::new();
    let rates = ["--network", "default", "--network-rate-in", "2m", "--network-rate-out", "1m"];
    let vm = Guest::new(host.bed(), "slow").quiet().with(&rates).run();
    let assert_limited = || {
        let shown = host.run("tc", &["qdisc", "show"]).stdout;
        let limit = |interface: &str| {
            let is_it = |line: &&str| line.contains(interface) && line.contains("tbf");
            shown.lines().find(is_it).unwrap_or_default().to_owned()
        };
        // tc counts bits, in powers of 1000: 2 MiB and 1 MiB.
        let [to, from] = [limit("hype-"), limit("hypi-")];
        assert!(to.contains("rate 16777Kbit") && from.contains("rate 8388Kbit"), "{shown}");
    };
    assert_limited();
    host.bed().ok(&["network", "repair"]);
    assert_limited();
    // And when others have removed them.
    let interfaces = host.interfaces();
    let named = |start| interfaces.iter().find(|name| name.starts_with(start)).expect("an interface");
    assert_eq!(host.run("tc", &["qdisc", "del", "dev", named("hype-"), "root"]).code, 0);
    assert_eq!(host.run("ip", &["link", "del", named("hypi-")]).code, 0);
    host.bed().ok(&["network", "repair"]);
    assert_limited();
    drop(vm);
    assert_nothing_left(&host);
    host.bed().fails(
        &["create", "--network", "none", "--network-rate-in", "1m", "--kernel", testguest()],
        &["bridge"],
    );
}

/// Whether it is a release of Cloud Hypervisor that cannot have a network.
fn is_too_old(program: &str) -> bool {
    let told = std::process::Command::new(program).arg("--version").output().expect("its version").stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    let release = told.split_once(" v").and_then(|(_, rest)| rest.split('.').next()?.parse::<u32>().ok());
    release.expect("a release") < 52
}

/// How many descriptors of a process are TAPs (`tun_chr_show_fdinfo` in drivers/net/tun.c).
fn taps_of(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let told = descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    told.filter(|text| text.contains("iff:\thype-")).count()
}

fn cloud_hypervisor_has_a_tap_over_sleep_and_fork() {
    on_each(|arguments| {
        let host = Host::new();
        let bed = host.bed();
        let guest = Guest::new(bed, "ch").with(arguments).with(&["--network", "default"]);
        if is_too_old(arguments.last().expect("a program")) {
            let vm = guest.create();
            bed.fails(&["start", &vm.name], &["v52.0 or newer is needed for a network"]);
            return assert_nothing_left(&host);
        }
        let vm = guest.run();
        vm.prints();
        // The one that it keeps for the next shim, and the one that it was given for its VM.
        let has_it = |vm: &Instance| assert!(taps_of(vm.pid("vmm")) >= 2, "{} has no TAP", vm.name);
        has_it(&vm);
        bed.ok(&["standby", "ch"]);
        assert_nothing_left(&host);
        bed.ok(&["restore", "ch"]);
        vm.prints();
        has_it(&vm);
        let fork = Instance::named(bed, "ch-fork");
        bed.ok(&["fork", "ch", "ch-fork"]);
        for vm in [&vm, &fork] {
            vm.prints();
            has_it(vm);
        }
        assert_ne!(address(&vm), address(&fork));
        vm.kill("shim");
        bed.ok(&["adopt", "ch"]);
        vm.prints();
        drop((vm, fork));
        assert_nothing_left(&host);
    });
}

/// A connection from outside, over which numbers go back and forth; dropping this ends it.
struct Held {
    process: hypeman_tests::processes::KilledOnDrop,
    numbers: std::sync::mpsc::Receiver<u64>,
}

impl Held {
    fn begin(host: &Host, whom: &str) -> Held {
        use std::io::{BufRead, BufReader};
        let mut command = host.command_outside(&probe(), &["hold", whom]);
        let mut process = command.stdout(std::process::Stdio::piped()).spawn().expect("hold");
        let (sender, numbers) = std::sync::mpsc::channel();
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        std::thread::spawn(move || {
            let mut read = lines.filter_map(|line| line.parse().ok());
            read.all(|number| sender.send(number).is_ok())
        });
        Held { process: hypeman_tests::processes::KilledOnDrop(process), numbers }
    }

    /// Waits until some more numbers have gone back and forth.
    fn goes_on(&mut self) {
        while self.numbers.try_recv().is_ok() {}
        for _ in 0..10 {
            let number = self.numbers.recv_timeout(hypeman_tests::wait::DEADLINE);
            assert!(number.is_ok(), "it does not go on: {:?}", self.process.0.try_wait());
        }
    }
}

fn standby_and_restore_keep_an_open_connection() {
    keeps_a_connection("qemu");
}

fn standby_and_restore_keep_one_on_microvm() {
    keeps_a_connection("qemu-microvm");
}

fn keeps_a_connection(hypervisor: &str) {
    let host = Host::new();
    let bed = host.bed();
    let vm = idle(&host, "sleeper", &["--hypervisor", hypervisor, "-p", "9000:7"]);
    bed.ok(&["exec", "-d", "sleeper", "/probe", "echo", "tcp", "0.0.0.0:7"]);
    let whom = format!("{HOST}:9000");
    let ask = || host.command_outside(&probe(), &["ask", "tcp", &whom, "x"]).output().expect("ask");
    until("it listens", || ask().status.success());
    let mut held = Held::begin(&host, &whom);
    held.goes_on();
    let its = address(&vm);
    for _ in 0..2 {
        bed.ok(&["standby", "sleeper"]);
        assert_nothing_left(&host);
        bed.ok(&["restore", "sleeper"]);
        held.goes_on();
        assert_eq!(address(&vm), its);
    }
    // A guest that goes on where it was when it was paused does so, too.
    bed.ok(&["pause", "sleeper"]);
    bed.ok(&["resume", "sleeper"]);
    held.goes_on();
}

fn a_fork_has_an_address_of_its_own_at_once() {
    let host = Host::new();
    let bed = host.bed();
    let vm = idle(&host, "source", &["-p", "9000:7"]);
    bed.ok(&["exec", "-d", "source", "/probe", "echo", "tcp", "0.0.0.0:7"]);
    let reached = |whom: &str| {
        host.command_outside(&probe(), &["ask", "tcp", whom, "x"]).output().expect("ask").status.success()
    };
    until("it listens", || reached(&format!("{HOST}:9000")));
    let fork = Instance::named(bed, "fork");
    bed.ok(&["fork", "source", "fork"]);
    let (its, forks) = (address(&vm), address(&fork));
    assert_ne!(its, forks);
    let told = eventually("it has its own address", || {
        let told = guest(&fork, "ip -o -4 address show eth0; cat /etc/hosts; ip -o link show eth0");
        told.contains(&forks).then_some(told)
    });
    assert!(told.contains(&format!("{forks}\tfork")) && !told.contains(&its), "{told}");
    // The source has the port that was asked for, and the fork one that is free.
    let port = bed.ok(&["port", "fork", "7"]);
    let port = format!("{HOST}:{}", port.rsplit(':').next().expect("a port"));
    assert_ne!(port, format!("{HOST}:9000"));
    until("both are reached", || reached(&format!("{HOST}:9000")) && reached(&port));
    assert!(guest(&vm, "ip -o -4 address show eth0").contains(&its));
}

fn vms_on_a_network_of_their_own_know_each_other_by_name() {
    let host = Host::new();
    let bed = host.bed();
    let _servers = host.serve_outside(host.directory());
    let one = idle(&host, "One", &["--network", "team"]);
    let other = idle(&host, "other", &["--network", "team"]);
    let stranger = idle(&host, "stranger", &[]);
    for vm in [&one, &other, &stranger] {
        bed.ok(&["exec", "-d", &vm.name, "/probe", "echo", "tcp", "0.0.0.0:7"]);
    }
    let asked = |vm: &Instance, name: &str| {
        let found = bed.run(&["exec", &vm.name, "nslookup", name]).stdout;
        let answer = found.split_once("\n\n").map(|(_, answer)| answer.to_owned()).unwrap_or_default();
        answer
            .lines()
            .filter_map(|line| line.strip_prefix("Address")?.rsplit(": ").next().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    for name in ["one", "ONE.", "one.hypeman.internal"] {
        assert_eq!(asked(&other, name), [address(&one)], "{name}");
    }
    for whom in [address(&one), address(&other)] {
        until("they talk", || {
            bed.run(&["exec", "other", "/probe", "ask", "tcp", &format!("{whom}:7"), "x"]).code == 0
        });
    }
    let outside = [hypeman_tests::netns::OUTSIDE.to_owned()];
    assert_eq!(asked(&one, hypeman_tests::netns::FILES), outside, "what the host's servers know");
    assert!(asked(&one, "stranger").is_empty() && asked(&one, "nobody.hypeman.internal").is_empty());
    let address_of_stranger = address(&stranger);
    for (vm, whom) in [(&one, &address_of_stranger), (&stranger, &address(&one))] {
        assert_ne!(bed.run(&["exec", &vm.name, "/probe", "ask", "tcp", &format!("{whom}:7"), "x"]).code, 0);
    }
    // The DNS server is there as long as somebody may ask, and again after it was killed.
    let answerers = || {
        let found = std::process::Command::new("pgrep")
            .args(["-f", &format!("names {}", bed.data_dir.display())])
            .output();
        String::from_utf8_lossy(&found.expect("pgrep").stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for look in [&["ps"][..], &["network", "repair", "team"]] {
        let pid = answerers().first().cloned().expect("one that answers");
        assert_eq!(host.run("kill", &["-9", &pid]).code, 0);
        bed.ok(look);
        assert_eq!(asked(&other, "one"), [address(&one)]);
    }
    drop(one);
    until("one that has gone has no name", || asked(&other, "one").is_empty());
    assert_eq!(asked(&other, "other"), [address(&other)], "and the others have theirs");
    drop(other);
    until("nobody answers nobody", || answerers().is_empty());
}
