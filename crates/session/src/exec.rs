//! A command in a guest: its input, its output, its end.

use std::io::ErrorKind;

use hypeman_agent::frames::{self, HEAD, Kind, MAX_DATA};
use hypeman_agent::protocol::{Exec, Failure, INPUT_WINDOW, Ran, Request, Say};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Event of a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has written to its standard output.
    Output(Vec<u8>),
    /// It has written to its standard error.
    Errors(Vec<u8>),
    /// It has ended; nothing comes after this.
    Ended(Ended),
}

/// End of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It exited: its exit code, or 128 + the signal that ended it.
    Exited(i32),
    /// It timed out, and was killed.
    TimedOut,
    /// The guest could not run it further.
    Failed(Failure),
}

/// Output of a running command.
#[derive(Debug)]
pub struct Output {
    stream: OwnedReadHalf,
    credit: mpsc::UnboundedSender<u32>,
}

/// Input of a running command.
#[derive(Debug)]
pub struct Input {
    stream: OwnedWriteHalf,
    credits: mpsc::UnboundedReceiver<u32>,
}

/// Runs a command over a stream to the guest's agent; returns when it runs. It ends when both
/// halves are dropped, unless it was started detached.
///
/// # Errors
/// [`Error::NotRun`] when it does not come to run; or when the connection breaks.
pub async fn start(stream: UnixStream, command: Exec) -> Result<(Output, Input)> {
    let (mut from, mut to) = stream.into_split();
    frames::write_message(&mut to, &Request::Exec(command)).await?;
    match frames::read_message(&mut from).await? {
        Ran::Started { .. } => {}
        Ran::Failed(failure) => return Err(Error::NotRun(failure)),
        other => return Err(Error::unexpected(&other)),
    }
    let (credit, credits) = mpsc::unbounded_channel();
    Ok((Output { stream: from, credit }, Input { stream: to, credits }))
}

impl Output {
    /// Returns the next event. Not to be dropped in between.
    ///
    /// # Errors
    /// When the connection breaks before the command has ended.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            let frame = frames::read(&mut self.stream).await?;
            let frame = frame.ok_or_else(|| std::io::Error::from(ErrorKind::UnexpectedEof))?;
            match frame.kind {
                Kind::Data => return Ok(Event::Output(frame.body)),
                Kind::Error => return Ok(Event::Errors(frame.body)),
                Kind::End => {}
                Kind::Message => match frame.message()? {
                    Ran::Wants { bytes } => {
                        let _ = self.credit.send(bytes); // nobody types any more
                    }
                    Ran::Exited { code } => return Ok(Event::Ended(Ended::Exited(code))),
                    Ran::TimedOut => return Ok(Event::Ended(Ended::TimedOut)),
                    Ran::Failed(failure) => return Ok(Event::Ended(Ended::Failed(failure))),
                    other @ Ran::Started { .. } => return Err(Error::unexpected(&other)),
                },
            }
        }
    }
}

impl Input {
    /// Sends the command what is typed, as much as it wants, and what else there is to say, until
    /// nothing of either comes any more. Without `typed` nothing is typed, and no end of the input
    /// is told.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn pass_on(
        mut self,
        typed: Option<mpsc::Receiver<Vec<u8>>>,
        mut said: mpsc::UnboundedReceiver<Say>,
    ) -> Result<()> {
        let mut credit = INPUT_WINDOW as usize;
        let mut typed = Typed { pieces: typed, rest: Vec::new() };
        loop {
            tokio::select! {
                Some(say) = said.recv() => frames::write_message(&mut self.stream, &say).await?,
                Some(bytes) = self.credits.recv() => credit += bytes as usize,
                frame = typed.next(), if credit >= MAX_DATA => match frame {
                    Some(mut frame) => {
                        credit -= frame.len() - HEAD;
                        frames::write(&mut self.stream, Kind::Data, &mut frame).await?;
                    }
                    None => frames::write_end(&mut self.stream).await?,
                },
                else => return Ok(()),
            }
        }
    }
}

/// Keyboard input, cut into frames.
struct Typed {
    pieces: Option<mpsc::Receiver<Vec<u8>>>,
    /// The rest of a piece that did not fit into one frame.
    rest: Vec<u8>,
}

impl Typed {
    /// Returns the next frame, with room for its head; `None`, once, at the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        while self.rest.is_empty() {
            let Some(pieces) = &mut self.pieces else { std::future::pending().await };
            match pieces.recv().await {
                Some(piece) => self.rest = piece,
                None => {
                    self.pieces = None;
                    return None;
                }
            }
        }
        let piece: Vec<u8> = self.rest.drain(..self.rest.len().min(MAX_DATA)).collect();
        Some([&[0; HEAD], &piece[..]].concat())
    }
}
