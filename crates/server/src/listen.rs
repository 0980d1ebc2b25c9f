//! Addresses to listen on: TCP, Unix sockets, and sockets that systemd has made.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

/// Prefix of the path of a Unix socket.
const UNIX: &str = "unix:";

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and a port of TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match text.strip_prefix(UNIX) {
            Some("") => Err("unix: lacks the path of its socket".to_owned()),
            Some(path) => Ok(Address::Unix(path.into())),
            None => text.replace("localhost:", "127.0.0.1:").parse().map(Address::Tcp).map_err(|_| {
                format!("{text:?} is no address; give one like 127.0.0.1:4973, [::1]:4973 or unix:/run/hypeman.sock")
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(formatter, "http://{address}"),
            Address::Unix(path) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// With the file that is ours to remove, if it is.
    Unix(UnixListener, #[expect(dead_code, reason = "dropped with the listener")] Option<SocketFile>),
}

/// File of a Unix socket, which goes with its listener.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // somebody else may have removed it
    }
}

impl Listener {
    /// Listens on an address. A Unix socket is for this user alone; one that a killed server has
    /// left is replaced.
    ///
    /// # Errors
    /// When the address is taken, or may not be taken.
    pub(crate) async fn bind(address: &Address) -> std::io::Result<Listener> {
        match address {
            Address::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Address::Unix(path) => {
                remove_stale(path).await?;
                // Made for its user alone, whatever others set: a token is needed all the same.
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
                Ok(Listener::Unix(listener, Some(SocketFile(path.clone()))))
            }
        }
    }

    /// Takes the sockets that systemd has made (sd_listen_fds(3)); none when it has made none.
    ///
    /// # Errors
    /// When one is neither of TCP nor a Unix socket, or does not listen.
    pub(crate) fn inherited() -> std::io::Result<Vec<Listener>> {
        let mut sockets = listenfd::ListenFd::from_env();
        let take = |sockets: &mut listenfd::ListenFd, index| {
            if let Ok(Some(listener)) = sockets.take_tcp_listener(index) {
                listener.set_nonblocking(true)?;
                return TcpListener::from_std(listener).map(Listener::Tcp);
            }
            let listener = sockets.take_unix_listener(index)?;
            let listener = listener.ok_or_else(|| std::io::Error::other("systemd passed a socket twice"))?;
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener).map(|listener| Listener::Unix(listener, None))
        };
        (0..sockets.len()).map(|index| take(&mut sockets, index)).collect()
    }

    /// The address, as users write it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Listener::Tcp(listener) => {
                listener.local_addr().map(|address| Address::Tcp(address).to_string()).unwrap_or_default()
            }
            Listener::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(tokio::net::unix::SocketAddr::as_pathname);
                path.map(|path| Address::Unix(path.to_owned()).to_string()).unwrap_or_default()
            }
        }
    }
}

/// Removes the socket of a server that is no more. Anything else is left alone.
async fn remove_stale(path: &Path) -> std::io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match tokio::net::UnixStream::connect(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()), // binding says that it is taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_tcp_or_a_unix_socket() {
        for (text, shown) in [
            ("127.0.0.1:4973", "http://127.0.0.1:4973"),
            ("localhost:80", "http://127.0.0.1:80"),
            ("[::1]:1", "http://[::1]:1"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for bad in ["", "4973", "unix:", "example.com:80", "127.0.0.1:99999"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_socket_of_a_killed_server_is_replaced_and_one_that_is_served_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("api.sock");
        let address = Address::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves its file
        let served = Listener::bind(&address).await.unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let taken = Listener::bind(&address).await.unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        drop(served);
        assert!(!path.exists());
        std::fs::write(&path, "a file of somebody's").unwrap();
        assert_eq!(Listener::bind(&address).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file of somebody's");
    }
}
