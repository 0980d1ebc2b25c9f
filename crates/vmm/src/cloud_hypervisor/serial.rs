//! The serial line's socket. Cloud Hypervisor binds it in `vm.create` (`vmm/src/console_devices.rs`), and accepts one
//! client at a time from when the guest boots (`vmm/src/serial_manager.rs`); until then a client waits in the backlog.

use std::path::Path;

use hypeman_files::AtPath;
use tokio::net::UnixStream;

use super::SERIAL_SOCKET;
use crate::hypervisor::Result;
use crate::vm::Console;

/// Connects to the serial line.
pub(crate) async fn connect(directory: &Path) -> Result<Console> {
    let path = directory.join(SERIAL_SOCKET);
    let console = async {
        let output = UnixStream::connect(&path).await?.into_std()?;
        Ok(Console { input: output.try_clone()?.into(), output: output.into() })
    };
    let connected: std::io::Result<Console> = console.await;
    Ok(connected.at(&path)?)
}
