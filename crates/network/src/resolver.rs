//! How the host looks up names (resolv.conf(5)), as far as a guest can do the same.

use std::net::IpAddr;

use hypeman_record::network::{DEFAULT, Network};
use resolv_conf::Config;

use crate::netlink::own_addresses;

/// Files with the host's servers; the second where the first names systemd-resolved's own address,
/// which only the host can reach.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Contents of a host's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Servers that the host asks.
    pub own: Vec<IpAddr>,
    /// Those of them that a guest can reach as well.
    pub servers: Vec<IpAddr>,
    /// Domains in which short names are looked up.
    pub search: Vec<String>,
    /// Options, as they stand there.
    pub options: Vec<String>,
}

/// How the host looks up names now. Without servers nobody but the host can ask them: they are its
/// own addresses.
#[must_use]
pub fn of_host() -> Resolver {
    let own = own_addresses().unwrap_or_default();
    let mut all = FILES.iter().map(|file| read(&std::fs::read(file).unwrap_or_default(), &own));
    let first = all.next().unwrap_or_default();
    match (first.servers.is_empty(), all.find(|other| !other.servers.is_empty())) {
        (true, Some(second)) => Resolver { servers: second.servers, ..first },
        _ => first,
    }
}

/// Whether the host answers a network's questions for names now: of VMs that can reach each other,
/// and where its own servers are out of their reach.
#[must_use]
pub fn answers_names(network: &Network) -> bool {
    network.name != DEFAULT || of_host().servers.is_empty()
}

/// Reads a file line by line: what is not known is passed over, as glibc does.
fn read(text: &[u8], own: &[IpAddr]) -> Resolver {
    let mut resolver = Resolver::default();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                let parsed = Config::parse(line).unwrap_or_default();
                let servers = parsed.nameservers.iter().map(IpAddr::from);
                resolver.own.extend(servers.clone());
                resolver.servers.extend(servers.filter(|server| is_reachable(server, own)));
            }
            Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
            Some("options") => resolver.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    resolver
}

/// Whether a server is neither the host itself nor on its link alone. Guests on a bridge have IPv4.
fn is_reachable(server: &IpAddr, own: &[IpAddr]) -> bool {
    match server {
        IpAddr::V4(address) => {
            !address.is_loopback()
                && !address.is_link_local()
                && !address.is_unspecified()
                && !own.contains(server)
        }
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &[u8], own: &[&str]) -> Vec<String> {
        let own: Vec<IpAddr> = own.iter().map(|address| address.parse().unwrap()).collect();
        read(text, &own).servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_that_only_the_host_can_reach_are_left_out() {
        let text = b"# comment\nnameserver 127.0.0.53\nnameserver 169.254.169.254\nnameserver fe80::1%eth0\n\
                     nameserver 192.0.2.53\nsearch example.org\noptions edns0\n";
        assert_eq!(servers(text, &[]), ["192.0.2.53"]);
        assert!(servers(text, &["192.0.2.53"]).is_empty(), "an address of the host's own");
        assert!(servers(b"nameserver 127.0.0.1\n", &[]).is_empty() && servers(b"", &[]).is_empty());
    }

    #[test]
    fn a_word_that_is_not_known_takes_nothing_from_the_guests() {
        for text in [
            &b"nameserver 192.0.2.2\noptions retrans:3 retry:1\n"[..],
            b"options timeout:abc\nnameserver 192.0.2.2\nnonsense here\n",
            b"nameserver nobody\nnameserver 192.0.2.2\n",
            b"# \xff\xfe\nnameserver 192.0.2.2\n",
        ] {
            assert_eq!(servers(text, &[]), ["192.0.2.2"]);
        }
    }

    #[test]
    fn domains_and_options_are_passed_on() {
        let resolver =
            read(b"domain old.test\nsearch corp.test lab.test\noptions ndots:2\noptions edns0\n", &[]);
        assert_eq!(resolver.search, ["corp.test", "lab.test"]);
        assert_eq!(resolver.options, ["ndots:2", "edns0"]);
    }
}
