//! passt (<https://passt.top>): a process that speaks Ethernet with the VMM on one side, and has
//! sockets as any program has on the other. It ends when the VMM hangs up.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;

use command_fds::CommandFdExt;
use hypeman_files::AtPath;
use hypeman_record::guest::config::GuestNetwork;
use hypeman_record::network::{Protocol, Published};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::process::{Child, Command};

use crate::error::{Error, Result};

/// The program's name.
pub(crate) const PROGRAM: &str = "passt";

/// The guest's side of it: the addresses of QEMU's own user network, which people know, and the
/// largest packets that passt takes.
pub struct UserNetwork {
    address: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
    dns: Ipv4Addr,
    mtu: u32,
}

/// Network configuration of a guest behind passt.
pub const USER_NETWORK: UserNetwork = UserNetwork {
    address: Ipv4Addr::new(10, 0, 2, 15),
    prefix: 24,
    gateway: Ipv4Addr::new(10, 0, 2, 2),
    dns: Ipv4Addr::new(10, 0, 2, 3),
    mtu: 65520,
};

impl UserNetwork {
    /// Settings that the guest is told. Questions for names go to `dns`, else to the host's
    /// servers, else, where only the host can reach those, to an address that stands for them:
    /// passt answers there over UDP alone, and then answers of the host's first server come from
    /// there.
    #[must_use]
    pub fn guest(&self, mac: String, dns: &[IpAddr], hosts: &[IpAddr]) -> GuestNetwork {
        GuestNetwork {
            mac,
            address: self.address,
            prefix: self.prefix,
            gateway: self.gateway,
            mtu: self.mtu,
            dns: match (dns, hosts) {
                ([], []) => vec![self.dns.into()],
                ([], hosts) => hosts.to_vec(),
                (dns, _) => dns.to_vec(),
            },
            search: Vec::new(),
            options: Vec::new(),
            hosts: Vec::new(),
        }
    }

    /// Whether passt is to stand for the host's servers.
    fn needs_forwarding(&self, guest: &GuestNetwork) -> bool {
        guest.dns.contains(&self.dns.into())
    }
}

/// One that runs. Dropping this leaves it running: it ends with its VM.
#[derive(Debug)]
pub struct Passt {
    process: Child,
}

impl Passt {
    /// Starts one that publishes these ports, and returns the VMM's end of its socket. What it has
    /// to say goes to `output`. Needs a tokio runtime.
    ///
    /// # Errors
    /// When it is not installed or cannot be run.
    pub fn start(published: &[Published], guest: &GuestNetwork, output: OwnedFd) -> Result<(Passt, OwnedFd)> {
        let program = which::which(PROGRAM).map_err(|_| Error::Passt("it is not installed".to_owned()))?;
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, its) = pair.map_err(std::io::Error::from).at(Path::new(PROGRAM))?;
        let mut command = std::process::Command::new(&program);
        command.args(arguments(published, guest, its.as_raw_fd())).env_clear().stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(output);
        command.preserved_fds(vec![its]);
        let process = Command::from(command).spawn().at(&program)?;
        Ok((Passt { process }, ours))
    }

    /// Waits until it has ended, and tells how.
    pub async fn ended(&mut self) -> String {
        self.process.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    /// How it has ended, if it has.
    pub fn has_ended(&mut self) -> Option<String> {
        self.process.try_wait().ok().flatten().map(|status| status.to_string())
    }
}

/// passt(1).
fn arguments(published: &[Published], guest: &GuestNetwork, socket: RawFd) -> Vec<String> {
    let UserNetwork { address, prefix, gateway, dns, .. } = USER_NETWORK;
    let mut arguments: Vec<String> = ["--foreground", "--quiet", "--fd"].map(str::to_owned).into();
    arguments.push(socket.to_string());
    let mut pair = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    pair("--address", address.to_string());
    pair("--netmask", prefix.to_string());
    pair("--gateway", gateway.to_string());
    if USER_NETWORK.needs_forwarding(guest) {
        pair("--dns-forward", dns.to_string());
    }
    for published in published {
        let option = if published.protocol == Protocol::Tcp { "--tcp-ports" } else { "--udp-ports" };
        let address = published.address.map(|address| format!("{address}/")).unwrap_or_default();
        let host = published.host.unwrap_or(published.guest);
        pair(option, format!("{address}{host}:{}", published.guest));
    }
    // Else the gateway's address would stand for the host's own loopback address, and all that
    // listens there.
    arguments.push("--no-map-gw".to_owned());
    arguments
}
