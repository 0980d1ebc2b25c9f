//! Output of a command on its way to its client, to its end.

use std::io::Result;
use std::time::Duration;

use hypeman_agent::data;
use hypeman_agent::frames::{self, HEAD, MAX_DATA};
use hypeman_agent::mux::Stream;
use hypeman_agent::protocol::Ran;
use rustix::process::Signal;
use tokio::io::WriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::pipe::Printed;
use super::session::Session;

/// How long what a command has left running in the background may go on to print after it: docker's
/// two seconds.
const AFTER_END: Duration = Duration::from_secs(2);

/// More than a pipe holds: what comes after it is not the command's own.
const HELD: usize = 1 << 20;

/// Stream to its client.
pub(crate) struct Output<'a> {
    pub(crate) writer: WriteHalf<Stream>,
    pub(crate) printed: &'a mut Printed,
    /// How much more of its input may come.
    pub(crate) credits: mpsc::UnboundedReceiver<u32>,
}

impl Output<'_> {
    /// Passes on what the command prints until it has ended, and tells how. When its time is up it
    /// is ended.
    pub(crate) async fn pass_on(mut self, session: &Session, timeout: Option<Duration>) -> Result<()> {
        let mut frame = vec![0; HEAD + MAX_DATA];
        let mut deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut ending = None;
        let mut end: Option<(i32, Instant)> = None;
        let mut after_end = 0;
        let may_follow = |after_end, until| after_end < HELD || Instant::now() < until;
        while end.is_none_or(|(_, until)| self.printed.is_open() && may_follow(after_end, until)) {
            tokio::select! {
                biased; // what was printed before its end comes before that
                read = self.printed.next(&mut frame[HEAD..]) => {
                    let (kind, count) = read?;
                    after_end += if end.is_some() { count } else { 0 };
                    frames::write(&mut self.writer, kind, &mut frame[..HEAD + count]).await?;
                }
                Some(bytes) = self.credits.recv() => self.say(&Ran::Wants { bytes }).await?,
                code = session.ended(), if end.is_none() => end = Some((code?, Instant::now() + AFTER_END)),
                () = until(deadline) => {
                    deadline = None;
                    ending = Some(Box::pin(session.end(Signal::TERM)));
                }
                () = done(&mut ending) => {}
                () = until(end.map(|(_, until)| until)) => break,
            }
        }
        let code = end.map_or(125, |(code, _)| code);
        let is_timed_out = timeout.is_some() && deadline.is_none();
        self.say(&if is_timed_out { Ran::TimedOut } else { Ran::Exited { code } }).await?;
        data::close(self.writer).await
    }

    async fn say(&mut self, word: &Ran) -> Result<()> {
        frames::write_message(&mut self.writer, word).await
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for something once.
async fn done(work: &mut Option<std::pin::Pin<Box<impl Future<Output = ()>>>>) {
    match work {
        Some(doing) => {
            doing.await;
            *work = None;
        }
        None => std::future::pending().await,
    }
}
