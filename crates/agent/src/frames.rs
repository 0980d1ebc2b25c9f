//! Frames on a stream: a message of the protocol, or bytes of one of an exchange's inputs and
//! outputs.

use std::io::{Error, ErrorKind, Result};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Maximum number of bytes of data in a frame: with its head, and that of the stream's frame, it
/// goes into one of the link's.
pub const MAX_DATA: usize = 63 * 1024;

/// Maximum number of bytes of a message: a command's arguments and environment may have 2 MiB
/// (`ARG_MAX`).
pub const MAX_MESSAGE: usize = 4 << 20;

/// Bytes before a frame's body: its kind, and its length in 24 bits.
pub const HEAD: usize = 4;

/// Kind of a frame's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message of the protocol, as JSON.
    Message,
    /// Standard input or output, or a tar stream.
    Data,
    /// Standard error.
    Error,
    /// There is no more data.
    End,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Message => 0,
            Kind::Data => 1,
            Kind::Error => 2,
            Kind::End => 3,
        }
    }

    fn of(byte: u8) -> Option<Kind> {
        [Kind::Message, Kind::Data, Kind::Error, Kind::End].into_iter().find(|kind| kind.byte() == byte)
    }

    fn max_length(self) -> usize {
        match self {
            Kind::Message => MAX_MESSAGE,
            Kind::Data | Kind::Error => MAX_DATA,
            Kind::End => 0,
        }
    }
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Kind of its content.
    pub kind: Kind,
    /// Its content.
    pub body: Vec<u8>,
}

impl Frame {
    /// The message in it.
    ///
    /// # Errors
    /// When it carries none, or one that is not understood.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T> {
        if self.kind != Kind::Message {
            return Err(Error::new(ErrorKind::InvalidData, "data where a message belongs"));
        }
        serde_json::from_slice(&self.body).map_err(|error| Error::new(ErrorKind::InvalidData, error))
    }
}

/// Reads a frame; `None` at the stream's end. Not to be dropped in between.
///
/// # Errors
/// When the stream breaks, or carries no frame, or one that is too long.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>> {
    let mut head = [0; HEAD];
    let count = stream.read(&mut head).await?;
    if count == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[count..]).await?;
    let [kind, length @ ..] = head;
    let length = length.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let kind = Kind::of(kind).filter(|kind| length <= kind.max_length());
    let kind = kind.ok_or_else(|| Error::new(ErrorKind::InvalidData, "no frame, or one too long"))?;
    // Room is made for what has come, not for what was announced.
    let mut body = Vec::with_capacity(length.min(MAX_DATA));
    stream.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Frame { kind, body }))
}

/// Reads a frame that has to be there, and the message in it.
///
/// # Errors
/// As of [`read`] and [`Frame::message`].
pub async fn read_message<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T> {
    read(stream).await?.ok_or(ErrorKind::UnexpectedEof)?.message()
}

/// Writes a message.
///
/// # Errors
/// When the stream breaks, or the message is too long.
pub async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &(impl Serialize + ?Sized),
) -> Result<()> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, message)?;
    if frame.len() - HEAD > MAX_MESSAGE {
        return Err(Error::new(ErrorKind::InvalidInput, "the message is too long"));
    }
    write(stream, Kind::Message, &mut frame).await
}

/// Writes the frame whose body is `frame` from [`HEAD`] on; what is before that is overwritten.
///
/// # Errors
/// When the stream breaks.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), kind: Kind, frame: &mut [u8]) -> Result<()> {
    let length = u32::try_from(frame.len() - HEAD).map_err(Error::other)?.to_le_bytes();
    frame[0] = kind.byte();
    frame[1..HEAD].copy_from_slice(&length[..3]);
    stream.write_all(frame).await?;
    stream.flush().await
}

/// Writes that there is no more data.
///
/// # Errors
/// When the stream breaks.
pub async fn write_end(stream: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    write(stream, Kind::End, &mut [0; HEAD]).await
}
