//! Errors of a network's DNS server.

use std::net::IpAddr;

/// Port of DNS servers (RFC 1035, 4.2).
pub(crate) const PORT: u16 = 53;

/// Reasons why a network has no DNS server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network.
    #[error(transparent)]
    Network(#[from] crate::error::Error),
    /// A file.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// The port is somebody else's, most often.
    #[error("port {PORT} of {address}: {source}")]
    Port {
        /// The host's address on the network.
        address: IpAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Asking.
    #[error("cannot query DNS servers: {0}")]
    Resolver(String),
}
