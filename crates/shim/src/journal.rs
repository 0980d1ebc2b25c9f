//! `hypeman.log`: what we did, and why.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hypeman_console::log::{Limits, Log};
use jiff::{Timestamp, Unit};

/// Maximum length of a message, in characters: the last words of a VMM and what they are about.
const LONGEST: usize = 8192;

/// Maximum number of notes of what a guest does that are taken at once.
const MOST_OF_GUEST: u32 = 20;

/// Time after which one more is taken.
const ONE_MORE: Duration = Duration::from_secs(60);

/// The log of our own deeds, bounded like the guest's. It has a thread of its own, so that nobody
/// who reads a console waits for a slow disk to take a note.
#[derive(Debug)]
pub(crate) struct Journal {
    lines: Option<Sender<String>>,
    writer: Option<JoinHandle<()>>,
    of_guest: RefCell<Allowance>,
}

impl Journal {
    /// Opens or makes the log.
    pub(crate) fn open(path: &Path, limits: Limits) -> std::io::Result<Journal> {
        let log = Log::open(path, limits).map_err(std::io::Error::other)?;
        let (lines, waiting) = channel();
        let writer = std::thread::Builder::new().name("journal".to_owned()).spawn(|| write(log, waiting))?;
        let of_guest = RefCell::new(Allowance::new(Instant::now()));
        Ok(Journal { lines: Some(lines), writer: Some(writer), of_guest })
    }

    /// Adds a line. On a full disk the line is given up: supervising goes on.
    pub(crate) fn note(&self, message: impl Display) {
        let now = Timestamp::now().round(Unit::Millisecond).unwrap_or_else(|_| Timestamp::now());
        // One line an entry, whatever a VMM or guest put into the message.
        let message: String = message.to_string().chars().take(LONGEST).collect();
        let message = message.replace(|c: char| c.is_control(), " ");
        if let Some(lines) = &self.lines {
            let _ = lines.send(format!("{now} [{}] {message}\n", std::process::id()));
        }
    }

    /// As [`Journal::note`], of what a guest can have happen as often as it likes: it is not to
    /// rotate away all else that is told here.
    pub(crate) fn note_of_guest(&self, message: impl Display) {
        match self.of_guest.borrow_mut().take(Instant::now()) {
            None => {}
            Some(0) => self.note(message),
            Some(left_out) => self.note(format_args!("{message} ({left_out} notes like this were left out)")),
        }
    }
}

/// How many notes of what a guest does may still be taken.
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
    left_out: u64,
}

impl Allowance {
    fn new(now: Instant) -> Allowance {
        Allowance { left: MOST_OF_GUEST, since: now, left_out: 0 }
    }

    /// Takes one, if there is one: how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        while self.left < MOST_OF_GUEST && now.duration_since(self.since) >= ONE_MORE {
            self.left += 1;
            self.since += ONE_MORE;
        }
        if self.left == MOST_OF_GUEST {
            self.since = now;
        }
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Drop for Journal {
    /// Waits until all is written.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write(mut log: Log, lines: Receiver<String>) {
    for line in lines {
        let _ = log.append(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_does_again_and_again_is_noted_now_and_then() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let taken = (0..1000).filter(|_| allowance.take(begin) == Some(0)).count();
        assert_eq!(taken, 20);
        assert_eq!(allowance.take(begin + ONE_MORE), Some(980));
        assert_eq!(allowance.take(begin + ONE_MORE), None);
        // A day of two notes a second.
        let day =
            (0..172_800).filter(|half| allowance.take(begin + Duration::from_millis(500) * *half).is_some());
        assert!(day.count() <= 24 * 60 + 20);
    }
}
