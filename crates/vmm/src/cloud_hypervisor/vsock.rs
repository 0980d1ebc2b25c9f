//! The host's side of the guest's vsock: a unix socket, on which a client says to which
//! port, and is told that someone listens there (docs/vsock.md,
//! `virtio-devices/src/vsock/unix/muxer.rs`). If nobody does, the connection is closed.

use std::path::Path;

use hypeman_files::AtPath;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::VSOCK_SOCKET;
use crate::error::Result;
use crate::home;

/// Maximum length of an answer in bytes: `OK`, and the port on our side.
const MAX_ANSWER: usize = 32;

/// Connects to a port in the guest; `None` if the VM has no vsock.
pub(crate) async fn connect(directory: &Path, port: u32) -> Result<Option<UnixStream>> {
    let path = home::of(directory).join(VSOCK_SOCKET);
    match home::find_socket(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Ok(Err(error).at(&path)?),
        Ok((_found, socket)) => Ok(Some(ask(&socket, port).await.at(&path)?)),
    }
}

async fn ask(socket: &Path, port: u32) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows is the agent's.
    while answer.len() < MAX_ANSWER && answer.last() != Some(&b'\n') {
        answer.push(stream.read_u8().await?);
    }
    match answer.starts_with(b"OK ") {
        true => Ok(stream),
        false => Err(std::io::Error::other("not the answer of a vsock")),
    }
}
