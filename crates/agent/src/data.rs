//! Long data in frames, for those who read or write it in a thread of their own.

use std::io::{ErrorKind, Read, Result, Write};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::frames::{self, HEAD, Kind, MAX_DATA};

/// Most pieces on their way between the two.
const MOST_WAITING: usize = 8;

/// Writer of a thread, whose data is sent.
#[derive(Debug)]
pub struct Sink {
    piece: Vec<u8>,
    pieces: mpsc::Sender<Vec<u8>>,
}

/// Reader of a thread, from received data; [`ErrorKind::UnexpectedEof`] when that breaks off.
#[derive(Debug)]
pub struct Source {
    piece: Vec<u8>,
    at: usize,
    pieces: mpsc::Receiver<Option<Vec<u8>>>,
    is_whole: bool,
}

/// From a writer to [`send`].
#[must_use]
pub fn pipe() -> (Sink, mpsc::Receiver<Vec<u8>>) {
    let (pieces, receiver) = mpsc::channel(MOST_WAITING);
    (Sink { piece: vec![0; HEAD], pieces }, receiver)
}

/// From [`receive`] to a reader.
#[must_use]
pub fn source() -> (Source, mpsc::Sender<Option<Vec<u8>>>) {
    let (sender, pieces) = mpsc::channel(MOST_WAITING);
    (Source { piece: Vec::new(), at: 0, pieces, is_whole: false }, sender)
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let count = bytes.len().min(HEAD + MAX_DATA - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == HEAD + MAX_DATA {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        if self.piece.len() > HEAD {
            let mut next = Vec::with_capacity(HEAD + MAX_DATA);
            next.resize(HEAD, 0);
            let piece = std::mem::replace(&mut self.piece, next);
            self.pieces.blocking_send(piece).map_err(|_| ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.flush(); // nobody wants it
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.at == self.piece.len() && !self.is_whole {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => (self.piece, self.at) = (piece, 0),
                Some(None) => self.is_whole = true,
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        let rest = &self.piece[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Sends what is written, and its end.
///
/// # Errors
/// When the stream breaks.
pub async fn send(mut pieces: mpsc::Receiver<Vec<u8>>, stream: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    while let Some(mut piece) = pieces.recv().await {
        frames::write(stream, Kind::Data, &mut piece).await?;
    }
    frames::write_end(stream).await
}

/// Receives to the end of the data. The reader may stop before.
///
/// # Errors
/// When the stream breaks, or something else comes.
pub async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    pieces: mpsc::Sender<Option<Vec<u8>>>,
) -> Result<()> {
    loop {
        tokio::select! {
            biased;
            () = pieces.closed() => return Ok(()), // a frame may be torn, and nothing more is read
            frame = frames::read(stream) => {
                let frame = frame?.ok_or(ErrorKind::UnexpectedEof)?;
                let piece = match frame.kind {
                    Kind::Data => Some(frame.body),
                    Kind::End => None,
                    Kind::Message | Kind::Error => return Err(ErrorKind::InvalidData.into()),
                };
                let is_last = piece.is_none();
                let _ = pieces.send(piece).await; // it has had enough
                if is_last {
                    return Ok(());
                }
            }
        }
    }
}

/// Ends an exchange after its last message: closes our side, so that it arrives.
///
/// # Errors
/// When the stream breaks.
pub async fn close(mut stream: impl AsyncWrite + Unpin) -> Result<()> {
    stream.shutdown().await
}
