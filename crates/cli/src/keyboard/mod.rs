//! Our standard input as a guest's keyboard.

mod terminal;

use std::io::Read;

use hypeman_session::keys::Keyboard;
use tokio::sync::{mpsc, oneshot};

pub(crate) use terminal::RawTerminal;

use crate::detach_keys::DetachKeys;
use crate::output;

/// Read at once, in bytes.
const CHUNK: usize = 4096;

/// So many chunks wait for a guest that takes nothing before nothing more is read.
const MOST_WAITING: usize = 64;

/// Byte that ends a terminal's input for the program that reads it.
const END_OF_INPUT: u8 = 0x04;

/// Keyboard input.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) keys: mpsc::Receiver<Vec<u8>>,
    /// The keys were typed that detach.
    pub(crate) detached: oneshot::Receiver<()>,
}

/// Reads standard input in a thread of its own. It ends for good when `detach` was typed; where
/// `tells_end`, the guest is told at the end.
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
pub(crate) async fn pass_on(keys: mpsc::Receiver<Vec<u8>>, guest: Keyboard) {
    let lost = || output::complain("the shim was replaced; the last keys may be lost");
    if let Err(error) = guest.pass_on(keys, lost).await {
        let error = hypeman_host::Error::from(error).into();
        output::complain(format_args!("the keyboard is disconnected: {}", output::explain(&error)));
    }
}
