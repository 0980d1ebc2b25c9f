//! A session over a channel whose other end may be another one at any moment, in the middle of anything.
//!
//! A virtio-serial port has no beginning and no end: when a shim is replaced, a guest restored or an agent started anew, what was on its
//! way for the one arrives at the other. So each frame carries the session's number before and behind its payload, and is passed on
//! only when it is whole. A side that meets something else skips to the beginning of the next session:
//!
//! ```text
//! host:   filler, BEGIN, nonce          the filler completes whatever frame the agent was waiting for, and is none itself
//! agent:  filler                        when it comes to be there, or gives a session up: then there is none
//! agent:  ANSWER, nonce                 the host passes over all that comes before
//! both:   length, nonce[..4], payload, nonce[4..8]
//! ```

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Maximum number of bytes of a frame's payload.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Before the payload its length and the session's number, behind it the rest of that.
const HEAD: usize = 8;
const TAIL: usize = 4;
const MAX_FRAME: usize = HEAD + MAX_PAYLOAD + TAIL;

const BEGIN: &[u8; 8] = b"hypeman\x01";
const ANSWER: &[u8; 8] = b"HYPEMAN\x01";
const NONCE: usize = 16;

/// No length of a frame, and no session's number.
const FILLER: u8 = 0xff;

/// Maximum number of bytes that may come before an answer: what a port, a socket and two buffers
/// hold of a session that was, several times over.
const MAX_NOISE: usize = 4 << 20;

type Nonce = [u8; NONCE];

/// A channel, with the session that is on it.
#[derive(Debug)]
pub struct Link<T> {
    channel: T,
    nonce: Nonce,
    inbox: Inbox,
    outbox: Outbox,
}

impl<T> Link<T> {
    /// A link without a session.
    pub fn new(channel: T) -> Link<T> {
        Link { channel, nonce: [FILLER; NONCE], inbox: Inbox::new(), outbox: Outbox::default() }
    }
}

#[cfg(feature = "fuzz")]
impl<T> Link<T> {
    const KNOWN: Nonce = [7; NONCE];

    /// One with a session whose number the fuzzer knows.
    pub(crate) fn in_session(channel: T) -> Link<T> {
        Link { nonce: Link::<T>::KNOWN, ..Link::new(channel) }
    }

    /// Bytes as frames of that session.
    pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
        let mut outbox = Outbox::default();
        outbox.push(bytes);
        outbox.seal(&Link::<T>::KNOWN);
        outbox.bytes
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Link<T> {
    /// Begins a session, as the host, and waits until the agent has taken part in it.
    ///
    /// # Errors
    /// When the channel breaks, or what comes over it does not come to an answer.
    pub async fn begin(&mut self) -> Result<()> {
        self.forget();
        rustix::rand::getrandom(&mut self.nonce, rustix::rand::GetRandomFlags::empty())?;
        self.nonce[0] &= 0x7f; // so that it is no filler
        self.nonce[4] &= 0x7f;
        let mut hello = vec![FILLER; MAX_FRAME];
        hello.extend_from_slice(BEGIN);
        hello.extend_from_slice(&self.nonce);
        let answer = [&ANSWER[..], &self.nonce].concat();
        let Link { channel, inbox, .. } = self;
        let (mut reader, mut writer) = tokio::io::split(channel);
        let say = async {
            writer.write_all(&hello).await?;
            writer.flush().await
        };
        // Both at once: the other end may have to be read before it reads.
        let hear = async {
            let mut noise = 0;
            while !inbox.skip_past(&answer, &mut noise) {
                if noise > MAX_NOISE {
                    return Err(broken("the guest sends no agent's data"));
                }
                inbox.fill(&mut reader).await?;
            }
            Ok(())
        };
        tokio::try_join!(say, hear).map(drop)
    }

    /// Waits for a session that the host begins, as the agent.
    ///
    /// # Errors
    /// When the channel breaks.
    pub async fn accept(&mut self) -> Result<()> {
        self.forget();
        let Link { channel, inbox, .. } = self;
        let (mut reader, mut writer) = tokio::io::split(channel);
        // A host that knows nothing of it is told that there is no session any more.
        let say = async {
            writer.write_all(&[FILLER; MAX_FRAME]).await?;
            std::future::pending::<Result<()>>().await
        };
        let hear = async {
            while !inbox.skip_past(BEGIN, &mut 0) || inbox.unread().len() < NONCE {
                // The words are there again when the nonce is.
                inbox.take_back(BEGIN);
                inbox.fill(&mut reader).await?;
            }
            Result::Ok(())
        };
        tokio::select! {
            biased; // if it begins already, nothing has to be said
            heard = hear => heard?,
            said = say => said?,
        }
        self.nonce.copy_from_slice(&self.inbox.unread()[..NONCE]);
        self.inbox.consume(NONCE);
        self.channel.write_all(&[&ANSWER[..], &self.nonce].concat()).await?;
        self.channel.flush().await
    }

    fn forget(&mut self) {
        self.outbox = Outbox::default();
        self.inbox.payload = 0;
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        while self.inbox.payload == 0 {
            if self.inbox.open_frame(&self.nonce)? {
                continue;
            }
            if ready!(self.inbox.poll_fill(&mut self.channel, cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Writes what is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.outbox.sent < self.outbox.sealed {
            let unsent = &self.outbox.bytes[self.outbox.sent..self.outbox.sealed];
            match ready!(Pin::new(&mut self.channel).poll_write(cx, unsent))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => self.outbox.sent += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> futures_io::AsyncRead for Link<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize>> {
        let link = self.get_mut();
        if buffer.is_empty() || !ready!(link.poll_frame(cx))? {
            return Poll::Ready(Ok(0));
        }
        let count = buffer.len().min(link.inbox.payload);
        buffer[..count].copy_from_slice(&link.inbox.unread()[..count]);
        link.inbox.take_payload(count);
        Poll::Ready(Ok(count))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> futures_io::AsyncWrite for Link<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let link = self.get_mut();
        if link.outbox.room() == 0 {
            link.outbox.seal(&link.nonce);
        }
        if link.outbox.sealed > 0 {
            ready!(link.poll_send(cx))?;
            link.outbox = Outbox { bytes: std::mem::take(&mut link.outbox.bytes), sent: 0, sealed: 0 };
            link.outbox.bytes.clear();
        }
        Poll::Ready(Ok(link.outbox.push(bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let link = self.get_mut();
        link.outbox.seal(&link.nonce);
        ready!(link.poll_send(cx))?;
        Pin::new(&mut link.channel).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx) // the channel itself is closed by its owner
    }
}

/// Receiving half of the link.
#[derive(Debug)]
struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of what is unread is payload of a frame that was found whole; behind it comes the
    /// frame's tail.
    payload: usize,
}

impl Inbox {
    fn new() -> Inbox {
        Inbox { bytes: vec![0; 2 * MAX_FRAME], start: 0, end: 0, payload: 0 }
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    fn take_payload(&mut self, count: usize) {
        self.payload -= count;
        self.consume(if self.payload == 0 { count + TAIL } else { count });
    }

    /// Looks for a whole frame at the beginning; whether there is one.
    fn open_frame(&mut self, nonce: &Nonce) -> Result<bool> {
        let unread = self.unread();
        let Some((head, rest)) = unread.split_at_checked(HEAD) else { return Ok(false) };
        let length = head[..4].try_into().map_or(0, u32::from_le_bytes) as usize;
        if !(1..=MAX_PAYLOAD).contains(&length) || head[4..] != nonce[..4] {
            return Err(broken("the channel has data of another session"));
        }
        let Some(tail) = rest.get(length..length + TAIL) else { return Ok(false) };
        if tail != &nonce[4..8] {
            return Err(broken("a frame of this session is not whole"));
        }
        self.consume(HEAD);
        self.payload = length;
        Ok(true)
    }

    /// Passes over everything up to and with `words`; whether they were there. Of what is left
    /// without them only their beginning could be of use.
    fn skip_past(&mut self, words: &[u8], noise: &mut usize) -> bool {
        let found = self.unread().windows(words.len()).position(|window| window == words);
        let skipped = match found {
            Some(at) => at + words.len(),
            None => self.unread().len().saturating_sub(words.len() - 1),
        };
        *noise += skipped;
        self.start += skipped; // what was skipped stays until more comes
        found.is_some()
    }

    /// Unreads words that were skipped past.
    fn take_back(&mut self, words: &[u8]) {
        if let Some(start) = self.start.checked_sub(words.len())
            && self.bytes[start..self.start] == *words
        {
            self.start = start;
        }
    }

    fn make_room(&mut self) {
        if self.bytes.len() - self.end < MAX_FRAME {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    fn poll_fill(
        &mut self,
        channel: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize>> {
        self.make_room();
        let mut buffer = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(channel).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    async fn fill(&mut self, channel: &mut (impl AsyncRead + Unpin)) -> Result<()> {
        self.make_room();
        match channel.read(&mut self.bytes[self.end..]).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }
}

/// Sending half of the link: a frame that is being filled, or sealed and on its way.
#[derive(Debug, Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// How much of it is a frame that can be sent, and was.
    sealed: usize,
    sent: usize,
}

impl Outbox {
    fn room(&self) -> usize {
        (HEAD + MAX_PAYLOAD).saturating_sub(self.bytes.len())
    }

    fn push(&mut self, bytes: &[u8]) -> usize {
        if self.bytes.is_empty() {
            self.bytes.resize(HEAD, 0);
        }
        let count = bytes.len().min(self.room());
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }

    fn seal(&mut self, nonce: &Nonce) {
        if self.sealed > 0 || self.bytes.len() <= HEAD {
            return;
        }
        let length = u32::try_from(self.bytes.len() - HEAD).unwrap_or(0);
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.bytes[4..HEAD].copy_from_slice(&nonce[..4]);
        self.bytes.extend_from_slice(&nonce[4..8]);
        self.sealed = self.bytes.len();
    }
}

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
