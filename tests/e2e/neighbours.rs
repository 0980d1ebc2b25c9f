//! Others on the wire, on the host and in the same address space: another data directory, a VPN,
//! the VM that had a port before.

use std::path::Path;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::busybox;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::netns::{HOST, Host, OUTSIDE, probe, serve};
use hypeman_tests::processes::KilledOnDrop;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::{eventually, until};

use crate::network::{address, guest, idle};
use crate::promises;

promises! {
    [Need::NetworkNamespaces, QEMU, BUSYBOX]
        what_is_on_loopback_and_what_a_network_is_called_stays_on_the_host,
        a_flow_goes_to_whoever_has_the_port_now,
        connections_of_the_source_end_in_its_fork,
        two_data_directories_come_up_by_the_same_bridge,
        routes_by_a_gateway_and_words_of_resolv_conf_are_no_obstacle,
        a_network_that_was_made_by_use_goes_with_its_last_use;
}

/// Has packets for a loopback address leave by the wire, as a neighbour who is up to no good would.
const REACH_FOR_LOOPBACK: &str = "
    sysctl -qw net.ipv4.conf.all.route_localnet=1
    ip rule add pref 10 lookup local
    ip rule del pref 0
    ip rule add pref 5 ipproto tcp dport 8080 lookup 100
    ip route add 127.0.0.1 via 198.51.100.1 dev wire src 198.51.100.2 table 100
    ip route add 10.0.0.0/8 via 198.51.100.1";

fn shell_outside(host: &Host, script: &str) {
    let status = host.command_outside("sh", &["-ec", script]).status().expect("sh");
    assert!(status.success(), "{script}: {status}");
}

fn what_is_on_loopback_and_what_a_network_is_called_stays_on_the_host() {
    let host = Host::new();
    let page = ["sh", "-c", "echo found > /page; exec httpd -f -p 80 -h /"];
    let options = ["--network", "team", "-p", "127.0.0.1:8080:80"];
    let vm = Instance::run(host.bed(), "page", &[&options[..], &[busybox()], &page].concat());
    let get = ["get", "127.0.0.1:8080", "/page"];
    let sees = |mut command: std::process::Command| {
        String::from_utf8_lossy(&command.output().expect("a page").stdout).contains("found")
    };
    until("the host reaches it", || sees(host.command(&probe(), &get)));
    shell_outside(&host, REACH_FOR_LOOPBACK);
    assert!(!sees(host.command_outside(&probe(), &get)), "a neighbour reaches it");
    // Without the rule that is about this, the neighbour would.
    let bridge = host.interfaces().into_iter().find(|name| name.starts_with("hypeman")).expect("a bridge");
    let removed = host.run("nft", &["delete", "chain", "inet", &bridge, "outside"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(sees(host.command_outside(&probe(), &get)), "the test reaches for nothing");

    let gateway = address(&vm).rsplit_once('.').map(|(net, _)| format!("{net}.1")).expect("an address");
    let gateway = format!("{}.0.1", gateway.splitn(3, '.').take(2).collect::<Vec<_>>().join("."));
    let names = ["page", "page.hypeman.internal", "host.docker.internal"];
    for name in names {
        assert!(guest(&vm, &format!("nslookup {name} {gateway} || true")).contains("Address"), "{name}");
        let asked = host.command_outside("busybox", &["timeout", "5", "nslookup", name, &gateway]).output();
        let asked = String::from_utf8_lossy(&asked.expect("nslookup").stdout).into_owned();
        assert!(!asked.contains("Name:"), "{name}: {asked}");
    }
    let reverse = guest(&vm, &format!("nslookup {} {gateway}", address(&vm)));
    assert!(reverse.contains("page.hypeman.internal"), "{reverse}");
    assert!(guest(&vm, "cat /etc/hosts").contains("host.docker.internal"));
}

fn a_flow_goes_to_whoever_has_the_port_now() {
    let host = Host::new();
    let run = |name: &str| {
        let vm = idle(&host, name, &["-p", "5000:5000/udp"]);
        vm.bed.ok(&["exec", "-d", name, "/probe", "say", "0.0.0.0:5000", name]);
        vm
    };
    let first = run("first");
    let mut client = host.command_outside(&probe(), &["steady", &format!("{HOST}:5000")]);
    let file = host.directory().join("answers");
    client.stdout(std::fs::File::create(&file).expect("a file"));
    let _client = KilledOnDrop(client.spawn().expect("a client"));
    let hears = |word: &str| {
        let answers = std::fs::read_to_string(&file).expect("the answers");
        answers.lines().rev().take(3).any(|answer| answer == word)
    };
    until("the first answers", || hears("first"));
    drop(first);
    let _second = run("second");
    until("the second answers the same client", || hears("second"));
}

/// A fork has another address: a program that waits for an answer on a connection from the source's
/// would wait for ever.
fn connections_of_the_source_end_in_its_fork() {
    let host = Host::new();
    let server = host.command_outside(&probe(), &["echo", "tcp", &format!("{OUTSIDE}:7")]);
    let (_server, _) = serve(server);
    let source = idle(&host, "source", &[]);
    let script = format!("while :; do /probe hold {OUTSIDE}:7 > /held; echo ended >> /ends; sleep 1; done");
    source.bed.ok(&["exec", "-d", "source", "sh", "-c", &script]);
    let held = |vm: &Instance| guest(vm, "tail -n 1 /held").parse::<u64>().unwrap_or(0);
    until("it has a connection", || held(&source) > 3);
    source.bed.ok(&["fork", "source", "fork"]);
    let fork = Instance::named(host.bed(), "fork");
    until("the program in the fork has been told", || guest(&fork, "cat /ends || true").contains("ended"));
    until("it has connected anew", || held(&fork) > 3);
    let before = held(&source);
    until("the source's goes on", || held(&source) > before);
    assert!(!guest(&source, "cat /ends || true").contains("ended"), "the source's connection has ended");
}

fn two_data_directories_come_up_by_the_same_bridge() {
    let host = Host::new();
    let other_dir = host.directory().join("other");
    std::fs::create_dir(&other_dir).expect("a directory");
    for shared in ["images", "kernels"] {
        std::os::unix::fs::symlink(host.bed().data_dir.join(shared), other_dir.join(shared)).expect("a link");
    }
    let other = Bed::new(&other_dir).with("HYPEMAN_NETWORK", "").in_namespace(host.namespace());
    host.bed().ok(&["run", "--rm", busybox(), "true"]);
    // The host is booted again.
    let _ = host.run("ip", &["link", "del", "hypeman0"]);
    let _ = host.run("nft", &["flush", "ruleset"]);
    let serve = |bed: &Bed, name: &str, port: &str| {
        let page = ["sh", "-c", "hostname > /page; exec httpd -f -p 80 -h /"];
        let port = format!("{port}:80");
        bed.ok(&[&["run", "-d", "--name", name, "-p", &port, busybox()][..], &page].concat());
    };
    let page = |port: u16| {
        let get = ["get", &format!("{HOST}:{port}"), "/page"].map(str::to_owned);
        let get: Vec<&str> = get.iter().map(String::as_str).collect();
        let output = host.command_outside(&probe(), &get).output().expect("a page");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    serve(&other, "theirs", "8000");
    serve(host.bed(), "ours", "8001");
    for (port, name) in [(8000, "theirs"), (8001, "ours")] {
        eventually(name, || (page(port) == name).then_some(()));
    }
    let network = |bed: &Bed| {
        let text = bed.ok(&["network", "inspect", "default"]);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (value[0]["bridge"].to_string(), value[0]["subnet"].to_string())
    };
    let (one, two) = (network(host.bed()), network(&other));
    assert!(one.0 != two.0 && one.1 != two.1, "{one:?} {two:?}");
    host.bed().ok(&["network", "repair"]);
    host.bed().ok(&["rm", "-f", "ours"]);
    host.bed().ok(&["network", "rm", "default"]);
    assert_eq!(page(8000), "theirs");
    assert!(host.rules().contains("chain hype-"), "the rules against forged addresses are there");
    other.ok(&["rm", "-f", "theirs"]);
}

fn routes_by_a_gateway_and_words_of_resolv_conf_are_no_obstacle() {
    let host = Host::new();
    for net in ["0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8"] {
        let added = host.run("ip", &["route", "add", net, "via", OUTSIDE]);
        assert_eq!(added.code, 0, "{added:?}");
    }
    host.bed().ok(&["network", "create", "team", "--subnet", "172.30.5.0/24"]);
    let resolver = Path::new("/etc/netns").join(host.namespace()).join("resolv.conf");
    let told = |text: &str, arguments: &[&str]| {
        std::fs::write(&resolver, text).expect("resolv.conf");
        let run =
            [&["run", "--rm"], arguments, &[busybox(), "cat", "/etc/resolv.conf", "/etc/hosts"]].concat();
        host.bed().ok(&run)
    };
    let company = format!("search corp.test\noptions ndots:2 retrans:3\nnameserver {OUTSIDE}\n");
    let seen = told(&company, &[]);
    for line in [&*format!("nameserver {OUTSIDE}"), "search corp.test", "options ndots:2 retrans:3"] {
        assert!(seen.contains(line), "{line} is not in {seen}");
    }
    let own = [
        "--dns-search",
        "lab.test",
        "--dns-option",
        "ndots:5",
        "--add-host",
        "db:192.0.2.7",
        "--network",
        "team",
    ];
    let seen = told(&company, &own);
    for line in ["search lab.test", "options ndots:5", "192.0.2.7\tdb"] {
        assert!(seen.contains(line), "{line} is not in {seen}");
    }
    // The host is its own server, by an address that guests cannot ask: the network's own answers.
    let seen = told(&format!("nameserver {HOST}\n"), &[]);
    assert!(seen.contains("nameserver 10.100.0.1"), "{seen}");
    host.bed().fails(&["network", "create", "n", "--bridge", "inet"], &["inet", "nftables"]);
    host.bed().fails(&["network", "create", "n", "--bridge", "all"], &["all"]);
    host.bed().fails(&["network", "create", "n", "--subnet", "224.1.0.0/16"], &["224.1.0.0/16", "multicast"]);
}

fn a_network_that_was_made_by_use_goes_with_its_last_use() {
    let host = Host::new();
    let outcome = host.bed().run(&["run", "--rm", "--network", "defualt", busybox(), "true"]);
    assert!(outcome.code == 0 && outcome.stderr.contains("created network \"defualt\""), "{outcome:?}");
    host.bed().fails(&["network", "inspect", "defualt"], &["defualt"]);
    host.bed().ok(&["network", "create", "kept"]);
    host.bed().ok(&["run", "--rm", "--network", "kept", busybox(), "true"]);
    host.bed().ok(&["network", "inspect", "kept"]);
    host.bed().ok(&["network", "rm", "kept"]);
    // Missing parts are told, with the way out.
    let vm = idle(&host, "cut-off", &[]);
    assert_eq!(host.run("ip", &["link", "del", "hypeman0"]).code, 0);
    let told = host.bed().run(&["doctor", "--format", "json"]).stdout;
    assert!(told.contains("hypeman network repair default"), "{told}");
    let (_server, _) = serve(host.command_outside(&probe(), &["echo", "tcp", &format!("{OUTSIDE}:9000")]));
    host.bed().ok(&["network", "repair"]);
    until("it reaches out again", || {
        guest(&vm, &format!("/probe ask tcp {OUTSIDE}:9000 word || true")).contains("word")
    });
}
