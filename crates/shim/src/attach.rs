//! Keyboard of attached clients. The guest's echo is not sent here: each client reads it from the
//! log, so nobody waits for a slow one.

use std::time::Duration;

use hypeman_record::protocol::{Refusal, Response};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::policy::Phase;
use crate::shared::Shared;

/// Most keys that are taken at once, in bytes.
const KEYS: usize = 4096;

/// Interval for polling whether a program that is to be typed to has come to run.
const LOOK: Duration = Duration::from_millis(50);

/// Whether somebody may type.
pub(crate) fn answer(shared: &Shared) -> Response {
    if shared.phase() < Phase::Ending {
        return Response::Done;
    }
    Response::Error { kind: Refusal::WrongState, cause: None, message: "the VM is ending".to_owned() }
}

/// Types what comes from a client until that has gone. Keys that come before the guest listens
/// wait.
pub(crate) async fn take_keys(client: &mut (impl AsyncRead + Unpin), shared: &Shared) -> std::io::Result<()> {
    loop {
        let mut keys = vec![0; KEYS];
        let count = client.read(&mut keys).await?;
        if count == 0 {
            return Ok(());
        }
        while !shared.is_up() {
            tokio::time::sleep(LOOK).await;
        }
        keys.truncate(count);
        shared.keyboard.press(keys).await;
    }
}
