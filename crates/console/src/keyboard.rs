//! Keyboard input on its way to a guest.
//!
//! A serial line has no more room than its UART's FIFO of 16 bytes, and a guest that takes them
//! late has little more. So what is typed waits here, and goes on as quickly as a guest is sure to
//! take it.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

/// Given at once, in bytes: what a 16550's FIFO holds.
const FIFO: usize = 16;

/// Pause after that. It makes a line of 16 KB/s at most, a little more than the 115,200 baud that
/// guests are used to.
const PAUSE: Duration = Duration::from_millis(1);

/// Longest pause, for a guest that takes nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// How many times [`Keyboard::press`] can be called before it waits for the guest.
const ROOM: usize = 16;

/// All that is typed to one guest, by whomever, in the order in which it came.
#[derive(Debug)]
pub struct Keyboard {
    pressed: mpsc::Sender<Vec<u8>>,
    waiting: Mutex<Waiting>,
}

/// Input that the guest has not taken.
#[derive(Debug)]
struct Waiting {
    pressed: mpsc::Receiver<Vec<u8>>,
    keys: Vec<u8>,
    /// How many of the keys the guest has.
    given: usize,
}

impl Keyboard {
    /// One on which nothing was typed.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has no default: two are not the same")]
    pub fn new() -> Keyboard {
        let (pressed, receiver) = mpsc::channel(ROOM);
        Keyboard { pressed, waiting: Mutex::new(Waiting { pressed: receiver, keys: Vec::new(), given: 0 }) }
    }

    /// Types. Waits while the guest takes nothing and much is waiting already.
    pub async fn press(&self, keys: Vec<u8>) {
        let _ = self.pressed.send(keys).await; // the receiver lives as long as this
    }

    /// Gives what is typed to the guest, for as long as this is waited for. What it has not taken
    /// by then is kept.
    pub(crate) async fn give(&self, input: &OwnedFd) {
        let mut waiting = self.waiting.lock().await;
        let mut pause = PAUSE;
        while let Ok(taken) = waiting.give(input).await {
            pause = if taken { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            sleep(pause).await;
        }
        pending().await // the line is closed, which its output tells too
    }
}

impl Waiting {
    /// Gives a few bytes, as soon as there are any; whether the guest has taken the last ones.
    async fn give(&mut self, input: &OwnedFd) -> std::io::Result<bool> {
        while self.given == self.keys.len() {
            match self.pressed.recv().await {
                Some(keys) => (self.keys, self.given) = (keys, 0),
                None => return pending().await,
            }
        }
        // A pipe has room for much more, which a guest would get at once. Of a socket it is not
        // known.
        let mode = rustix::fs::fstat(input)?.st_mode;
        let is_pipe = FileType::from_raw_mode(mode) == FileType::Fifo;
        if is_pipe && rustix::io::ioctl_fionread(input)? > 0 {
            return Ok(false);
        }
        let end = self.keys.len().min(self.given + FIFO);
        match rustix::io::write(input, &self.keys[self.given..end]) {
            Ok(count) => self.given += count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::pipe::PipeFlags;

    use super::*;

    fn pipe() -> (std::fs::File, OwnedFd) {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        (reader.into(), writer)
    }

    #[tokio::test]
    async fn all_that_is_typed_comes_in_order_and_never_more_than_a_fifo_at_once() {
        let keyboard = Keyboard::new();
        let (mut guest, input) = pipe();
        let typed: Vec<u8> = (0..2000_u32).map(|number| number as u8).collect();
        let mut taken: Vec<u8> = Vec::new();
        let take = async {
            while taken.len() < typed.len() {
                let mut some = [0; 64];
                match guest.read(&mut some) {
                    Ok(count) => {
                        assert!(count <= FIFO);
                        taken.extend(&some[..count]);
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let press = async {
            for some in typed.chunks(100) {
                keyboard.press(some.to_vec()).await;
            }
            pending::<()>().await
        };
        tokio::select! {
            () = take => {}
            () = press => {}
            () = keyboard.give(&input) => {}
        }
        assert_eq!(taken, typed);
    }

    #[tokio::test]
    async fn what_a_closed_line_has_not_taken_comes_over_the_next() {
        let keyboard = Keyboard::new();
        keyboard.press(b"typed before".to_vec()).await;
        let (guest, input) = pipe();
        drop(guest);
        tokio::select! {
            () = keyboard.give(&input) => {}
            () = tokio::time::sleep(PAUSE * 5) => {}
        }
        let (mut guest, input) = pipe();
        let mut some = [0; 64];
        tokio::select! {
            () = keyboard.give(&input) => {}
            () = async { while guest.read(&mut some).is_err() { tokio::time::sleep(PAUSE).await } } => {}
        }
        assert!(some.starts_with(b"typed before\0"));
    }
}
