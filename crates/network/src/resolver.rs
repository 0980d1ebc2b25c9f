//! Who answers the host's questions for names (resolv.conf(5)).

use std::net::IpAddr;

/// Where they stand, the second where the first names systemd-resolved's own address, which only the host can reach.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The servers that a guest can reach as well.
#[must_use]
pub fn of_host() -> Vec<IpAddr> {
    let servers = FILES.iter().map(|file| reachable(&std::fs::read(file).unwrap_or_default()));
    servers.into_iter().find(|servers| !servers.is_empty()).unwrap_or_default()
}

/// Those of a file that are neither the host itself nor on its link alone. Guests on a bridge have IPv4.
fn reachable(text: &[u8]) -> Vec<IpAddr> {
    let Ok(config) = resolv_conf::Config::parse(text) else { return Vec::new() };
    let addresses = config.nameservers.iter().map(IpAddr::from);
    let is_reachable = |address: &IpAddr| match address {
        IpAddr::V4(address) => {
            !address.is_loopback() && !address.is_link_local() && !address.is_unspecified()
        }
        IpAddr::V6(_) => false,
    };
    addresses.filter(is_reachable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_only_the_host_can_reach_are_left_out() {
        let text = b"# comment\nnameserver 127.0.0.53\nnameserver 169.254.169.254\nnameserver fe80::1%eth0\n\
                     nameserver 192.0.2.53\nsearch example.org\noptions edns0\n";
        assert_eq!(reachable(text), ["192.0.2.53".parse::<IpAddr>().unwrap()]);
        assert!(reachable(b"nameserver 127.0.0.1\n").is_empty() && reachable(b"").is_empty());
    }
}
