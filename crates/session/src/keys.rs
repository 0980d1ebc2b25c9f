//! The keyboard of a guest.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::background::in_background;
use crate::error::{Result, What};

/// Connects to the keyboard of a guest; `None` when its VM has ended. May block.
pub type Dial = Arc<dyn Fn() -> Result<Option<StdStream>> + Send + Sync>;

/// The keyboard of a guest. It outlives the shim through which it is typed to.
pub struct Keyboard {
    stream: StdStream,
    dial: Dial,
}

impl Keyboard {
    /// Makes the keyboard to which `stream` leads now, and to which `dial` connects when that ends.
    #[must_use]
    pub fn new(stream: StdStream, dial: Dial) -> Keyboard {
        Keyboard { stream, dial }
    }

    /// Types `keys` to the guest until they end or the VM does. Calls `lost` when keys may be lost,
    /// because the shim was replaced.
    ///
    /// # Errors
    /// When the guest cannot be typed to any more although its VM runs.
    pub async fn pass_on(self, mut keys: mpsc::Receiver<Vec<u8>>, mut lost: impl FnMut()) -> Result<()> {
        let mut guest = Some(self.stream);
        while let Some(stream) = guest.take() {
            stream.set_nonblocking(true)?;
            let (mut from_shim, mut to_shim) = UnixStream::from_std(stream)?.into_split();
            let mut nothing = [0];
            let is_lost = loop {
                tokio::select! {
                    // It says nothing more; it ends.
                    _ = from_shim.read(&mut nothing) => break false,
                    typed = keys.recv() => match typed {
                        Some(typed) if to_shim.write_all(&typed).await.is_err() => break true,
                        Some(_) => {}
                        None => return Ok(()), // what is on its way is taken all the same
                    },
                }
            };
            let dial = self.dial.clone();
            let dialled = in_background(move || dial()).await;
            guest = dialled.map_err(std::io::Error::other).what("connect to the guest")??;
            if is_lost && guest.is_some() {
                lost();
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Keyboard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Keyboard").field("stream", &self.stream).finish_non_exhaustive()
    }
}
