//! Our standard input as a guest's keyboard.

mod terminal;

use std::io::Read;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result};
use hypeman_instance::attach::attach;
use hypeman_instance::instance::Instance;
use hypeman_record::state::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

pub(crate) use terminal::RawTerminal;

use crate::background::in_background;
use crate::context::hypeman;
use crate::detach_keys::DetachKeys;
use crate::output;

/// Read at once, in bytes.
const CHUNK: usize = 4096;

/// So many chunks wait for a guest that takes nothing before nothing more is read.
const MOST_WAITING: usize = 64;

/// What ends a terminal's input, to the program that reads it.
const END_OF_INPUT: u8 = 0x04;

/// What is typed to us.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) keys: mpsc::Receiver<Vec<u8>>,
    /// The keys were typed that detach.
    pub(crate) detached: oneshot::Receiver<()>,
}

/// Reads standard input in a thread of its own. It ends for good when `detach` was typed; where `tells_end`, the guest is told at the
/// end.
pub(crate) fn read(detach: Option<DetachKeys>, tells_end: bool) -> Typed {
    let (sender, keys) = mpsc::channel(MOST_WAITING);
    let (on_detached, detached) = oneshot::channel();
    std::thread::spawn(move || {
        if read_all(detach, tells_end, &sender) {
            let _ = on_detached.send(());
        }
    });
    Typed { keys, detached }
}

/// Reads to the end; whether it was that of the keys that detach.
fn read_all(mut detach: Option<DetachKeys>, tells_end: bool, sender: &mpsc::Sender<Vec<u8>>) -> bool {
    let mut buffer = [0; CHUNK];
    let mut ends_line = true;
    loop {
        let count = match std::io::stdin().read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(count) => count,
            Err(_) => 0,
        };
        let mut keys = buffer[..count].to_vec();
        let is_detached = detach.as_mut().is_some_and(|detach| detach.take_out(&mut keys));
        if count == 0 && tells_end {
            // Within a line the first one only ends what is read at once (termios(3), VEOF).
            keys.extend(std::iter::repeat_n(END_OF_INPUT, if ends_line { 1 } else { 2 }));
        }
        ends_line = keys.last().map_or(ends_line, |last| *last == b'\n');
        if !keys.is_empty() && sender.blocking_send(keys).is_err() || count == 0 || is_detached {
            return is_detached;
        }
    }
}

/// Types what is typed to us to the guest, as long as that lives.
pub(crate) async fn pass_on(keys: mpsc::Receiver<Vec<u8>>, guest: UnixStream, instance: Instance) {
    if let Err(error) = pass_all(keys, guest, instance).await {
        output::complain(format_args!(
            "what is typed does not reach the guest any more: {}",
            output::explain(&error)
        ));
    }
}

async fn pass_all(mut keys: mpsc::Receiver<Vec<u8>>, guest: UnixStream, instance: Instance) -> Result<()> {
    let mut guest = Some(guest);
    while let Some(stream) = guest.take() {
        stream.set_nonblocking(true)?;
        let (mut from_shim, mut to_shim) = tokio::net::UnixStream::from_std(stream)?.into_split();
        let mut nothing = [0];
        let lost = loop {
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
        guest = again(&instance).await?;
        if lost && guest.is_some() {
            output::complain("the shim was replaced; what was typed last may be lost");
        }
    }
    Ok(())
}

/// Another connection, if the VM has not ended.
async fn again(instance: &Instance) -> Result<Option<UnixStream>> {
    let (instance, hypeman) = (instance.clone(), hypeman()?);
    let attached = in_background(move || match attach(&instance, &hypeman) {
        Ok(stream) => Ok(Some(stream)),
        Err(_) if !is_up(&instance) => Ok(None),
        Err(error) => Err(error),
    });
    Ok(attached.await.context("connect to the guest")??)
}

/// Whether its VM is there. What it has printed may take long to be written after it has ended.
fn is_up(instance: &Instance) -> bool {
    instance.observe().is_ok_and(|seen| seen.state.is_active() && seen.state != State::Shutdown)
}
