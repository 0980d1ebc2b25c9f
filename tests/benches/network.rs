//! Networks: how fast guest and host talk, beside the same QEMU with a TAP that was set up by hand,
//! and beside QEMU's own user network; and what a network costs a start. Prints tables for
//! docs/performance.md.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{busybox, testguest};
use hypeman_tests::measure::{median, timed};
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::netns::{HOST, Host, probe, serve};
use hypeman_tests::vm::Instance;
use testguest::Options;

/// Rounds of each in turn.
const ROUNDS: usize = 15;

/// Rounds of starts, which differ by milliseconds from one to the next.
const STARTS: usize = 40;

/// Number of bytes to send.
const BYTES: &str = "200000000";

/// How often a byte goes to and fro.
const BOUNCES: &str = "2000";

/// VMs beside which one more is started.
const MANY: usize = 199;

/// VMs that are started at once.
const AT_ONCE: usize = 200;

fn main() {
    let needs = [Need::NetworkNamespaces, QEMU, BUSYBOX, Need::Tool { name: "passt", package: "passt" }];
    let lacking: Vec<String> = needs.iter().filter_map(|need| need.lacking()).collect();
    if !lacking.is_empty() {
        println!("SKIPPED network: {}", lacking.join("; "));
        return;
    }
    let host = Host::new();
    let servers = [("echo", "7001"), ("sink", "7002")].map(|(what, port)| {
        let at = format!("0.0.0.0:{port}");
        let arguments: &[&str] = if what == "echo" { &["echo", "tcp", &at] } else { &["sink", &at] };
        serve(host.command(&probe(), arguments)).0
    });
    bridges(&host);
    users(&host);
    drop(servers);
    at_once();
    starts();
}

/// A guest with the probe, and the host's address as it sees it.
struct Peer<'a> {
    vm: Instance<'a>,
    host: String,
    /// Where the host reaches it, if it does.
    guest: Option<String>,
}

impl<'a> Peer<'a> {
    fn new(
        bed: &'a Bed,
        name: &str,
        arguments: &[&str],
        setup: &str,
        host: &str,
        guest: Option<String>,
    ) -> Peer<'a> {
        let vm = Instance::run(bed, name, &[arguments, &[busybox(), "sleep", "100000"]].concat());
        bed.ok(&["cp", &probe(), &format!("{name}:/probe")]);
        bed.shell(name, setup);
        bed.ok(&["exec", "-d", name, "/probe", "sink", "0.0.0.0:7002"]);
        Peer { vm, host: host.to_owned(), guest }
    }

    fn seconds(&self, words: &[&str]) -> Duration {
        let printed = self.vm.bed.ok(&[&["exec", &self.vm.name, "/probe"], words].concat());
        Duration::from_secs_f64(printed.parse().expect("seconds"))
    }

    fn out(&self) -> Duration {
        self.seconds(&["pour", &format!("{}:7002", self.host), BYTES])
    }

    fn latency(&self) -> Duration {
        self.seconds(&["bounce", &format!("{}:7001", self.host), BOUNCES])
    }

    fn incoming(&self, host: &Host) -> Duration {
        let at = format!("{}:7002", self.guest.as_ref().expect("an address"));
        let printed = host.run(&probe(), &["pour", &at, BYTES]);
        Duration::from_secs_f64(printed.stdout.trim().parse().unwrap_or_else(|_| panic!("{printed:?}")))
    }
}

/// A program in QEMU's place that runs it with more words.
fn qemu_with(host: &Host, name: &str, words: &str) -> String {
    let path = host.directory().join(name);
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec qemu-system-x86_64 --version\nexec qemu-system-x86_64 \"$@\" {words}\n"
    );
    std::fs::write(&path, text).expect("a program");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    path.to_str().expect("UTF-8").to_owned()
}

fn bridges(host: &Host) {
    for arguments in [
        "tuntap add hand mode tap vnet_hdr",
        "address add 10.99.0.1/24 dev hand",
        "link set hand mtu 1400 up",
    ] {
        assert_eq!(host.run("ip", &arguments.split(' ').collect::<Vec<_>>()).code, 0);
    }
    let words = "-netdev tap,id=hand,ifname=hand,script=no,downscript=no,vhost=off -device virtio-net-pci,netdev=hand,romfile=";
    let by_hand = host.bed().clone().with("HYPEMAN_QEMU", qemu_with(host, "qemu-tap", words));
    let setup = "ip address add 10.99.0.2/24 dev eth0; ip link set eth0 mtu 1400 up";
    let hand = Peer::new(
        &by_hand,
        "hand",
        &["--network", "none", "--confine", "off"],
        setup,
        "10.99.0.1",
        Some("10.99.0.2".to_owned()),
    );
    // The host's own ports are closed to guests.
    host.bed().ok(&[
        "network",
        "create",
        "default",
        "--allow-host-port",
        "7001",
        "--allow-host-port",
        "7002",
    ]);
    let mut ours = Peer::new(host.bed(), "ours", &["--network", "default"], "true", "10.100.0.1", None);
    ours.guest = ours.vm.bed.inspect("ours")["lease"]["address"].as_str().map(str::to_owned);
    println!(
        "| guest and host, median of {ROUNDS} | QEMU with a TAP by hand | hypeman's bridge | ratio |\n|---|---|---|---|"
    );
    compare("200 MB from the guest", || hand.out(), || ours.out());
    compare("200 MB to the guest", || hand.incoming(host), || ours.incoming(host));
    compare("a byte to the host and back", || hand.latency(), || ours.latency());
}

fn users(host: &Host) {
    let words = "-netdev user,id=slirp -device virtio-net-pci,netdev=slirp,romfile=";
    let slirp_bed = host.bed().clone().with("HYPEMAN_QEMU", qemu_with(host, "qemu-user", words));
    let setup =
        "ip address add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2";
    let arguments = ["--network", "none", "--confine", "off"];
    let slirp = Peer::new(&slirp_bed, "slirp", &arguments, setup, HOST, None);
    let ours = Peer::new(host.bed(), "passt", &["--network", "user"], "true", HOST, None);
    println!(
        "\n| guest and host, median of {ROUNDS} | QEMU's user network | --network user (passt) | ratio |\n|---|---|---|---|"
    );
    compare("200 MB from the guest", || slirp.out(), || ours.out());
    compare("a byte to the host and back", || slirp.latency(), || ours.latency());
}

/// A row: how much of the other's speed ours has.
fn compare(what: &str, mut other: impl FnMut() -> Duration, mut ours: impl FnMut() -> Duration) {
    let (mut others, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        others.push(other());
        own.push(ours());
    }
    let (other, ours) = (median(others), median(own));
    println!("| {what} | {other:.3} ms | {ours:.3} ms | {:.2} |", other / ours);
}

/// Starts of many VMs at once, whose guests end with their first line.
fn at_once() {
    let host = Host::new();
    let bed = host.bed();
    let cmdline = Options { count: 1, ..Options::default() }.to_string();
    let started = |network: &str| {
        let names: Vec<String> = (0..AT_ONCE).map(|number| format!("at-once-{number}")).collect();
        let memory = ["--memory", "16m", "--kernel", testguest(), "--cmdline", &cmdline];
        let (time, ()) = timed(|| {
            let start = |name: &String| {
                let command = [&["run", "-d", "--name", name, "--network", network], &memory[..]].concat();
                bed.command(&command).stdout(Stdio::null()).spawn().expect("hypeman run")
            };
            let running: Vec<_> = names.iter().map(start).collect();
            running.into_iter().for_each(|mut run| assert!(run.wait().expect("its end").success()));
        });
        bed.ok(&[&["rm", "-f"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
        time
    };
    let _first = (started("default"), started("none"));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        without.push(started("none"));
        with.push(started("default"));
    }
    let (without, with) = (median(without), median(with));
    println!("\n| {AT_ONCE} x `hypeman run -d` at once, median of 3 | time | ratio |\n|---|---|---|");
    println!("| without a network | {without:.0} ms | |");
    println!("| on the default network | {with:.0} ms | {:.2} |", with / without);
}

fn starts() {
    let host = Host::new();
    let bed = host.bed();
    let quiet = Options { count: 1, echo: true, ..Options::default() }.to_string();
    let run = |name: &str, network: &str| {
        let memory = ["--memory", "16m", "--kernel", testguest(), "--cmdline", &quiet];
        let mut command =
            bed.command(&[&["run", "-d", "--name", name, "--network", network], &memory[..]].concat());
        let (time, output) =
            timed(|| command.stdout(Stdio::null()).stderr(Stdio::piped()).output().expect("hypeman run"));
        assert!(output.status.success(), "{output:?}");
        time
    };
    let started = |network: &str| {
        let time = run("one", network);
        bed.ok(&["rm", "-f", "one"]);
        time
    };
    let _first = (started("default"), started("none"));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        without.push(started("none"));
        with.push(started("default"));
    }
    let (without, with) = (median(without), median(with));
    println!("\n| `hypeman run -d`, median of {STARTS} | time | |\n|---|---|---|");
    println!("| without a network | {without:.1} ms | |");
    println!("| on the default network | {with:.1} ms | {:+.1} ms |", with - without);
    for number in 0..MANY {
        let name = format!("vm-{number}");
        run(&name, "default");
        bed.ok(&["pause", &name]); // its guest waits for input, which takes a CPU
    }
    let (mut without, mut among_many) = (Vec::new(), Vec::new());
    for _ in 0..STARTS / 2 {
        without.push(started("none"));
        among_many.push(started("default"));
    }
    let (without, among_many) = (median(without), median(among_many));
    println!("| without a network, beside {MANY} VMs that have one | {without:.1} ms | |");
    println!(
        "| the default network's {}th VM | {among_many:.1} ms | {:+.1} ms |",
        MANY + 1,
        among_many - without
    );
}
