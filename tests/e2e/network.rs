//! VMs on bridges reach out, and reach nothing that they are not to. Each test has a host of its
//! own, in network namespaces.

use hypeman_tests::fixtures::{busybox, debian, directory};
use hypeman_tests::needs::{BUSYBOX, MMDEBSTRAP, Need, QEMU};
use hypeman_tests::netns::{FILES, HOST, Host, OUTSIDE, probe, serve};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [Need::NetworkNamespaces, QEMU, BUSYBOX]
        a_guest_downloads_from_a_server_behind_nat_by_name,
        on_the_default_network_nobody_sees_anybody_else,
        spoofed_addresses_are_dropped,
        the_hosts_ports_are_closed_to_guests_but_those_allowed,
        flushed_rules_are_put_back,
        what_vms_use_is_shown,
        a_firewall_that_drops_what_vms_send_is_told;
    [Need::NetworkNamespaces, QEMU, MMDEBSTRAP, Need::Root] a_system_has_the_address_from_the_start;
}

/// A VM that does nothing, with the probe at /probe.
pub(crate) fn idle<'a>(host: &'a Host, name: &str, arguments: &[&str]) -> Instance<'a> {
    let program = [busybox(), "sleep", "100000"];
    let vm = Instance::run(host.bed(), name, &[arguments, &program].concat());
    host.bed().ok(&["cp", &probe(), &format!("{name}:/probe")]);
    vm
}

/// Runs a command in a guest; what it printed.
pub(crate) fn guest(vm: &Instance, command: &str) -> String {
    vm.bed.shell(&vm.name, command)
}

/// The address of a VM.
pub(crate) fn address(vm: &Instance) -> String {
    vm.bed.inspect(&vm.name)["lease"]["address"].as_str().expect("an address").to_owned()
}

fn a_guest_downloads_from_a_server_behind_nat_by_name() {
    let host = Host::new();
    let files = tempfile::tempdir_in(directory()).expect("a directory");
    let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(files.path().join("file"), &content).expect("a file");
    let _servers = host.serve_outside(files.path());
    let vm = idle(&host, "nat", &[]);
    guest(&vm, &format!("wget -q -O /file http://{FILES}/file"));
    vm.bed.ok(&["cp", "nat:/file", host.directory().join("copy").to_str().expect("UTF-8")]);
    assert_eq!(std::fs::read(host.directory().join("copy")).expect("the copy"), content);
    let told =
        guest(&vm, "cat /etc/resolv.conf /etc/hosts; hostname; ip -o -4 address; ip -o link; ip route");
    let address = address(&vm);
    for word in [
        format!("nameserver {OUTSIDE}"),
        format!("{address}\tnat"),
        format!("inet {address}/16"),
        "mtu 1400".to_owned(),
        "default via 10.100.0.1".to_owned(),
    ] {
        assert!(told.contains(&word), "{word} is not in {told}");
    }
    // It has the address as long as it is there.
    vm.bed.ok(&["stop", "-t", "0", "nat"]);
    vm.bed.ok(&["start", "nat"]);
    assert!(guest(&vm, "ip -o -4 address").contains(&address));
    guest(&vm, &format!("wget -q -O /dev/null http://{FILES}/file"));
    let other = idle(&host, "dns", &["--dns", "192.0.2.1"]);
    assert_eq!(guest(&other, "cat /etc/resolv.conf"), "nameserver 192.0.2.1");
}

fn on_the_default_network_nobody_sees_anybody_else() {
    let host = Host::new();
    let [one, other] = ["one", "other"].map(|name| idle(&host, name, &[]));
    let (its, others) = (address(&one), address(&other));
    assert_ne!(its, others);
    other.bed.ok(&["exec", "-d", "other", "/probe", "echo", "tcp", "0.0.0.0:7"]);
    // The host reaches it, so it is there.
    until("it listens", || host.run(&probe(), &["ask", "tcp", &format!("{others}:7"), "x"]).code == 0);
    for attempt in [
        format!("/probe ask tcp {others}:7 x"),
        format!("ping -c 1 -W 2 {others}"),
        // Past the switch, by the host.
        format!("ip route add {others}/32 via 10.100.0.1 && /probe ask tcp {others}:7 x"),
    ] {
        let outcome = one.bed.run(&["exec", "one", "sh", "-c", &attempt]);
        assert_ne!(outcome.code, 0, "{attempt}: {outcome:?}");
    }
    // Nor by the port that the other publishes on the host.
    let public = idle(&host, "public", &["-p", "9000:7"]);
    public.bed.ok(&["exec", "-d", "public", "/probe", "echo", "tcp", "0.0.0.0:7"]);
    let outside = || host.command_outside(&probe(), &["ask", "tcp", &format!("{HOST}:9000"), "x"]).output();
    until("it is published", || outside().is_ok_and(|output| output.status.success()));
    for target in [HOST, "10.100.0.1"] {
        let outcome = one.bed.run(&["exec", "one", "/probe", "ask", "tcp", &format!("{target}:9000"), "x"]);
        assert_ne!(outcome.code, 0, "{target}: {outcome:?}");
    }
}

fn spoofed_addresses_are_dropped() {
    let host = Host::new();
    let at = format!("{OUTSIDE}:4000");
    let (_listener, mut heard) = serve(host.command_outside(&probe(), &["listen", &at]));
    let vm = idle(&host, "forger", &[]);
    guest(&vm, &format!("/probe send {at} first"));
    let first = heard.next().expect("a datagram");
    assert_eq!(first, format!("first from {HOST}"), "all that comes out comes from the host");
    let forge = |mac: &str, ip: &str, word: &str| guest(&vm, &format!("/probe forge {mac} {ip} {at} {word}"));
    forge("-", "10.100.0.77", "another-address");
    forge("-", OUTSIDE, "an-address-of-elsewhere");
    forge("02:00:00:00:00:77", "-", "another-mac");
    forge("02:00:0a:64:00:01", "10.100.0.1", "the-host-itself");
    forge("-", "-", "its-own");
    assert_eq!(heard.next().as_deref(), Some(&*format!("its-own from {HOST}")), "nothing came before");
    // Nor can it take another's place on the switch.
    guest(&vm, "ip address add 10.100.0.77/16 dev eth0; ip neigh flush dev eth0");
    let lost =
        vm.bed.run(&["exec", "forger", "ping", "-c", "1", "-W", "2", "-I", "10.100.0.77", "10.100.0.1"]);
    assert_ne!(lost.code, 0, "{lost:?}");
}

fn the_hosts_ports_are_closed_to_guests_but_those_allowed() {
    let host = Host::new();
    let bed = host.bed();
    bed.ok(&["network", "create", "default", "--allow-host-port", "7001"]);
    let servers = ["0.0.0.0:7000", "0.0.0.0:7001", "127.0.0.1:7002"]
        .map(|at| serve(host.command(&probe(), &["echo", "tcp", at])).0);
    let link_local = host.run("ip", &["address", "add", "169.254.169.254/32", "dev", "lo"]);
    assert_eq!(link_local.code, 0, "{link_local:?}");
    let vm = idle(&host, "guest", &[]);
    let reached = |whom: &str| bed.run(&["exec", "guest", "/probe", "ask", "tcp", whom, "x"]).code == 0;
    assert!(reached("10.100.0.1:7001"), "what is allowed is reached");
    for closed in ["10.100.0.1:7000", &format!("{HOST}:7000"), "10.100.0.1:7002", "169.254.169.254:7000"] {
        assert!(!reached(closed), "{closed}");
    }
    // Sent to the host's interface, but for its loopback address.
    guest(
        &vm,
        "ip route add 127.0.0.0/8 via 10.100.0.1 table 100; ip rule add to 127.0.0.1 table 100; ip rule del table local || true",
    );
    assert!(!reached("127.0.0.1:7002"));
    drop(servers);
}

fn flushed_rules_are_put_back() {
    let host = Host::new();
    let bed = host.bed();
    let _vm = idle(&host, "first", &["-p", "9000:7"]);
    let own = |rules: &str| {
        rules.lines().filter(|line| !line.contains("handle")).map(str::to_owned).collect::<Vec<_>>()
    };
    let foreign =
        "table inet others {\n\tchain theirs {\n\t\tcounter packets 0 bytes 0 comment \"theirs\"\n\t}\n}\n";
    let path = host.directory().join("foreign.nft");
    std::fs::write(&path, foreign).expect("rules");
    let before = own(&host.rules());
    for repair in ["network repair", "another start"] {
        assert_eq!(host.run("nft", &["flush", "ruleset"]).code, 0);
        assert_eq!(host.run("nft", &["-f", path.to_str().expect("UTF-8")]).code, 0);
        if repair == "network repair" {
            bed.ok(&["network", "repair"]);
        } else {
            drop(idle(&host, "second", &[]));
        }
        let now = own(&host.rules());
        assert!(before.iter().all(|line| now.contains(line)), "{repair}: {before:#?} {now:#?}");
        assert!(now.iter().any(|line| line.contains("\"theirs\"")), "other people's rules stay");
    }
    // And the bridge itself.
    assert_eq!(host.run("ip", &["link", "del", "hypeman0"]).code, 0);
    let lost = bed.run(&["exec", "first", "ping", "-c", "1", "-W", "2", "10.100.0.1"]);
    assert_ne!(lost.code, 0, "{lost:?}");
    bed.ok(&["network", "repair", "default"]);
    // The kernel lets a bridge answer up to a second after it has its first port
    // (net/core/link_watch.c).
    until("it answers", || bed.run(&["exec", "first", "ping", "-c", "1", "-W", "2", "10.100.0.1"]).code == 0);
    bed.ok(&["rm", "-f", "first"]);
    bed.fails(&["network", "rm", "none-such"], &["none-such"]);
    bed.ok(&["network", "rm", "default"]);
    assert!(!host.interfaces().iter().any(|name| name.starts_with("hyp")), "{:?}", host.interfaces());
    assert!(!host.rules().contains("hypeman"), "{}", host.rules());
}

fn what_vms_use_is_shown() {
    let host = Host::new();
    let bed = host.bed();
    let vm = idle(&host, "user", &[]);
    let at = format!("{OUTSIDE}:4000");
    guest(
        &vm,
        &format!(
            "head -c 4000 /dev/zero | tr '\\0' x > /word; for i in 1 2 3 4 5; do /probe send {at} $(head -c 1000 /word); done"
        ),
    );
    let shown = bed.ok(&["stats", "--no-stream", "--format", "json"]);
    let row: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let number = |field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field}: {shown}"));
    assert_eq!((row["instance_name"].as_str(), number("allocated_vcpus")), (Some("user"), 1.0));
    assert!(number("network_tx_bytes") >= 5000.0, "{shown}");
    let sent = number("network_tx_bytes");
    assert!(number("network_rx_bytes") < sent, "{shown}");
    for field in ["cpu_seconds", "memory_rss_bytes", "disk_used_bytes"] {
        assert!(number(field) > 0.0, "{field}: {shown}");
    }
    let table = bed.ok(&["stats", "user"]);
    assert!(table.lines().count() == 2 && table.contains("NET I/O"), "{table}");
    assert!(bed.ok(&["ps"]).contains("PORTS"));
    bed.fails(&["stats", "nobody"], &["nobody"]);
    bed.ok(&["stop", "-t", "0", "user"]);
    bed.fails(&["stats", "user"], &["user", "Stopped"]);
}

fn a_firewall_that_drops_what_vms_send_is_told() {
    let host = Host::new();
    let told = || host.bed().run(&["doctor"]).stdout;
    assert!(told().contains("no rule drops it"), "{}", told());
    // As docker has it.
    let rules = "table ip filter {\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n }\n chain DOCKER-USER {\n }\n}\n";
    let path = host.directory().join("docker.nft");
    std::fs::write(&path, rules).expect("rules");
    assert_eq!(host.run("nft", &["-f", path.to_str().expect("UTF-8")]).code, 0);
    let told = told();
    assert!(
        told.contains("FORWARD") && told.contains("iptables -I DOCKER-USER -i hypeman+ -j ACCEPT"),
        "{told}"
    );
}

fn a_system_has_the_address_from_the_start() {
    let host = Host::new();
    let vm = Instance::run(host.bed(), "system", &["--memory", "1g", debian()]);
    vm.bed.ok(&["cp", &probe(), "system:/probe"]);
    let (_server, _) = serve(host.command_outside(&probe(), &["echo", "tcp", &format!("{OUTSIDE}:7")]));
    assert_eq!(guest(&vm, &format!("/probe ask tcp {OUTSIDE}:7 x")), "x");
    let told = guest(&vm, "cat /etc/resolv.conf /etc/hosts /run/systemd/network/00-hypeman.network");
    let address = address(&vm);
    for word in
        [format!("nameserver {OUTSIDE}"), format!("{address}\tsystem"), format!("Address={address}/16")]
    {
        assert!(told.contains(&word), "{word} is not in {told}");
    }
    // An image that has systemd-networkd ask for an address everywhere.
    let unit = "[Match]\nName=*\n[Network]\nDHCP=yes\n";
    guest(&vm, &format!("printf '{unit}' > /etc/systemd/network/10-all.network"));
    let start = || vm.bed.run(&["exec", "system", "systemctl", "start", "systemd-networkd"]).code == 0;
    until("systemd starts networkd", start);
    until("networkd is content", || {
        guest(&vm, "networkctl status --all 2>&1 || true").contains("00-hypeman.network")
    });
    assert_eq!(guest(&vm, &format!("/probe ask tcp {OUTSIDE}:7 x")), "x");
    assert!(guest(&vm, "networkctl status --all").contains(&address));
}
