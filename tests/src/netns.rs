//! A host of a test's own, made of network namespaces: one in which hypeman runs, and one outside of it, with a server.
//!
//! ```text
//! guest ── hypeman0 ── host 198.51.100.1 ══ 198.51.100.2 outside (files.test)
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::bed::{Bed, Outcome};
use crate::fixtures;
use crate::needs::find;
use crate::processes::KilledOnDrop;

/// The host's address on the wire between the two.
pub const HOST: &str = "198.51.100.1";
/// The other one's.
pub const OUTSIDE: &str = "198.51.100.2";
/// The name by which the outside's DNS server knows it.
pub const FILES: &str = "files.test";

/// A host with its network namespaces. All that it has goes with it.
#[derive(Debug)]
pub struct Host {
    name: String,
    bed: Bed,
    scratch: TempDir,
}

impl Host {
    /// Makes one, with an empty data directory that has the shared images and kernels. Packets on
    /// the wire have at most 1400 bytes.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn new() -> Host {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("hm{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let outside = format!("{name}-out");
        let scratch = tempfile::tempdir_in(fixtures::directory()).expect("a directory");
        let data_dir = scratch.path().join("data");
        std::fs::create_dir(&data_dir).expect("a directory");
        for shared in ["images", "kernels"] {
            std::os::unix::fs::symlink(fixtures::bed().data_dir.join(shared), data_dir.join(shared))
                .expect("a link");
        }
        let resolver = etc(&name);
        std::fs::create_dir_all(&resolver).expect("a directory");
        std::fs::write(resolver.join("resolv.conf"), format!("nameserver {OUTSIDE}\n")).expect("resolv.conf");
        ip(&format!("netns add {name}"));
        ip(&format!("netns add {outside}"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {outside} link set lo up"));
        ip(&format!("link add wire mtu 1400 netns {name} type veth peer name wire mtu 1400 netns {outside}"));
        for (namespace, address, other) in [(&name, HOST, OUTSIDE), (&outside, OUTSIDE, HOST)] {
            ip(&format!("-n {namespace} address add {address}/24 dev wire"));
            ip(&format!("-n {namespace} link set wire up"));
            ip(&format!("-n {namespace} route add default via {other}"));
        }
        let bed = Bed::new(&data_dir).with("HYPEMAN_NETWORK", "").in_namespace(&name);
        Host { name, bed, scratch }
    }

    /// hypeman on this host.
    #[must_use]
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// The network namespace in which it runs.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// Moves this thread, and those that it starts later, to this host.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn enter(&self) {
        let namespace = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).expect("enter the namespace");
    }

    /// A directory of its own.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// A command on this host.
    #[must_use]
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        in_namespace(&self.name, None, &found(program), arguments)
    }

    /// A command outside.
    #[must_use]
    pub fn command_outside(&self, program: &str, arguments: &[&str]) -> Command {
        in_namespace(&format!("{}-out", self.name), None, &found(program), arguments)
    }

    /// Runs a command on this host to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        self.command(program, arguments).output().expect("run").into()
    }

    /// The rules that the kernel has.
    #[must_use]
    pub fn rules(&self) -> String {
        self.run("nft", &["list", "ruleset"]).stdout
    }

    /// The interfaces that the kernel has.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        let listed = self.run("ip", &["-br", "link"]).stdout;
        let name = |line: &str| line.split([' ', '@']).next().map(str::to_owned);
        listed.lines().filter_map(name).collect()
    }

    /// Serves the files of a directory outside, by HTTP at port 80, and the name of that by DNS.
    #[must_use]
    pub fn serve_outside(&self, directory: &Path) -> [KilledOnDrop; 2] {
        let at = format!("{OUTSIDE}:80");
        let directory = directory.to_str().expect("UTF-8");
        let mut http = self.command_outside("busybox", &["httpd", "-f", "-p", &at, "-h", directory]);
        let address = format!("--address=/{FILES}/{OUTSIDE}");
        let listen = format!("--listen-address={OUTSIDE}");
        let usual =
            ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="];
        let own = ["--bind-interfaces", &listen, &address, "--user=root", "--local-ttl=1"];
        let mut dns = self.command_outside("dnsmasq", &[&usual[..], &own[..]].concat());
        [http.spawn(), dns.spawn()].map(|child| KilledOnDrop(child.expect("a server")))
    }
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for id in self.bed.run(&["ps", "-aq"]).stdout.lines() {
            let _ = self.bed.run(&["rm", "-f", id]);
        }
        for name in [self.name.clone(), format!("{}-out", self.name)] {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
        let _ = std::fs::remove_dir_all(etc(&self.name));
    }
}

/// Directory that replaces /etc for those in a namespace (ip-netns(8)).
fn etc(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments}: {status}");
}

/// A command in a namespace, which only root can enter, of that user.
pub(crate) fn in_namespace(name: &str, user: Option<u32>, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]).stdin(Stdio::null());
    if let Some(user) = user {
        let [uid, gid] = ["--reuid", "--regid"].map(|option| format!("{option}={user}"));
        command.args(["setpriv", &uid, &gid, "--clear-groups"]);
    }
    command.arg(program).args(arguments);
    command
}

/// A program by its name, wherever it is.
fn found(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| program.into())
}

/// The program that talks to networks as tests need it.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn probe() -> String {
    let probe = Bed::new(Path::new("")).hypeman.with_file_name("net-probe");
    assert!(probe.is_file(), "{} is not built: run `cargo build --workspace --bins`", probe.display());
    probe.to_str().expect("UTF-8").to_owned()
}

/// Starts a server, which says a line when it listens.
///
/// # Panics
/// When it does not.
pub fn serve(mut command: Command) -> (KilledOnDrop, impl Iterator<Item = String>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a server");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("listens"), "{command:?}");
    (KilledOnDrop(child), lines)
}
