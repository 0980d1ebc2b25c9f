//! The control port of inits of releases before there was an agent: a VM that such a release has
//! started is taken over, or restored.

use std::rc::Rc;

use hypeman_agent::VSOCK_PORT;
use hypeman_record::guest::{CONTROL_PORT, control};
use hypeman_record::launch::Launch;
use hypeman_vmm::vm::Vm;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::order::{Error, Result};

/// Whether the guest has one of these.
pub(crate) fn is_in(launch: &Launch) -> bool {
    launch.spec.control_port.as_deref() == Some(CONTROL_PORT)
}

/// The host's end of the port, from its first use on: what a guest has not taken yet is gone when
/// it is closed.
pub(crate) type Port = Mutex<Option<UnixStream>>;

/// Hands a request to it. It goes into the socket's buffer; init takes it when it listens.
pub(crate) async fn send(port: &Port, vm: Rc<dyn Vm>, request: control::Request) -> Result<()> {
    let mut line = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
    line.push(b'\n');
    let mut open = port.lock().await;
    let mut stream = match open.take() {
        Some(stream) => stream,
        None => vm.channel(VSOCK_PORT).await?.ok_or(Error::NoInit)?,
    };
    stream.write_all(&line).await?;
    *open = Some(stream);
    Ok(())
}
