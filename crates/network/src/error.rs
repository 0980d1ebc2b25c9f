//! Errors.

use std::io::ErrorKind;
use std::net::IpAddr;

use hypeman_record::kind::Kind;
use hypeman_record::network::Protocol;

/// Errors of networks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no network of this name.
    #[error("no such network: {0}")]
    NotFound(String),
    /// There is one already.
    #[error("network {0:?} already exists")]
    Taken(String),
    /// Someone uses it.
    #[error("network {name:?} is in use by {user}")]
    InUse {
        /// The network.
        name: String,
        /// The user of it.
        user: String,
    },
    /// A value that cannot be used.
    #[error("invalid {what} {value:?}: {reason}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// The given value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// The host has a route to addresses of the network.
    #[error("subnet {subnet} of network {network:?} is in use: the host has a route to {route}")]
    Clash {
        /// The network.
        network: String,
        /// Its addresses.
        subnet: String,
        /// The route.
        route: String,
    },
    /// Its bridge is the network of another data directory.
    #[error("bridge {bridge} of network {network:?} belongs to another data directory ({other})")]
    Foreign {
        /// The network.
        network: String,
        /// The interface.
        bridge: String,
        /// The owner as it stands on the interface.
        other: String,
    },
    /// All addresses are taken.
    #[error("no free address on network {0:?}")]
    Full(String),
    /// A port of the host's that is to be published is taken.
    #[error("cannot bind port {port}/{protocol} of the host's {}: {}", of(*address), why(source, *port))]
    Port {
        /// The host's address; `None` is each.
        address: Option<IpAddr>,
        /// The port.
        port: u16,
        /// Its transport.
        protocol: Protocol,
        /// Why not.
        source: std::io::Error,
    },
    /// This host cannot have it.
    #[error("{0}")]
    Unable(String),
    /// The kernel refused.
    #[error("{doing}: {source}")]
    Kernel {
        /// The operation.
        doing: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// `nft` refused.
    #[error("nft: {0}")]
    Rules(String),
    /// passt did not start.
    #[error("passt: {0}")]
    Passt(String),
    /// A file or device could not be used.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] hypeman_record::format::Error),
}

/// Why a port cannot be had, with a hint: it is reported by a shim, whose errors come to the
/// command line as words.
fn why(error: &std::io::Error, port: u16) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "ports below 1024 need root or `sysctl net.ipv4.ip_unprivileged_port_start={port}`; or use a port from 1024 on, as in \
             -p 8080:{port}"
        ),
        ErrorKind::AddrInUse => {
            "it is in use (`hypeman ps`, `ss -lntup`); give -p another port, or none for a free one"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

fn of(address: Option<IpAddr>) -> String {
    address.map_or("addresses".to_owned(), |address| address.to_string())
}

impl Error {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotFound(_) => Kind::NotFound,
            Error::Taken(_) => Kind::Taken,
            Error::InUse { .. } | Error::Clash { .. } | Error::Foreign { .. } => Kind::InUse,
            Error::Invalid { .. } => Kind::Invalid,
            Error::Full(_) => Kind::NoAddress,
            Error::Port { .. } => Kind::PortTaken,
            Error::Unable(_) => Kind::Unsupported,
            Error::Kernel { .. } | Error::Rules(_) | Error::Passt(_) => Kind::Internal,
            Error::Files(error) => Kind::of_files(error),
            Error::Record(error) => error.kind(),
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was being done when the kernel refused.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, rtnetlink::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Kernel { doing: what(), source })
    }
}
