//! The serial line's socket. Cloud Hypervisor binds it in `vm.create`
//! (`vmm/src/console_devices.rs`), and accepts one client at a time from when the guest boots
//! (`vmm/src/serial_manager.rs`); until then a client waits in the backlog.

use std::os::fd::AsFd;
use std::path::Path;

use hypeman_files::AtPath;
use tokio::net::UnixSocket;

use super::SERIAL_SOCKET;
use crate::error::Result;
use crate::home;
use crate::vm::{Console, KeepConsole};

/// Connects to the serial line.
pub(crate) async fn connect(directory: &Path) -> Result<Console> {
    connect_kept(directory, &mut |_| Ok(())).await
}

/// As [`connect`], with a connection that `keep` has seen before anything comes over it.
pub(crate) async fn connect_kept(directory: &Path, keep: &mut KeepConsole<'_>) -> Result<Console> {
    let path = home::of(directory).join(SERIAL_SOCKET);
    let console = async {
        let socket = UnixSocket::new_stream()?;
        let [output, input] = [socket.as_fd().try_clone_to_owned()?, socket.as_fd().try_clone_to_owned()?];
        let console = Console { output, input };
        keep(&console)?;
        let (_found, path) = home::find_socket(&path)?;
        drop(socket.connect(path).await?);
        Ok(console)
    };
    let connected: std::io::Result<Console> = console.await;
    Ok(connected.at(&path)?)
}
