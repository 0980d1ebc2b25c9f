//! `hypeman.log`: what we did, and why.

use std::fmt::Display;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hypeman_console::log::{Limits, Log};
use jiff::{Timestamp, Unit};

/// The log of our own deeds, bounded like the guest's. It has a thread of its own, so that nobody who reads a console waits
/// for a slow disk to take a note.
#[derive(Debug)]
pub(crate) struct Journal {
    lines: Option<Sender<String>>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens or makes the log.
    pub(crate) fn open(path: &Path, limits: Limits) -> std::io::Result<Journal> {
        let log = Log::open(path, limits).map_err(std::io::Error::other)?;
        let (lines, waiting) = channel();
        let writer = std::thread::Builder::new().name("journal".to_owned()).spawn(|| write(log, waiting))?;
        Ok(Journal { lines: Some(lines), writer: Some(writer) })
    }

    /// Adds a line. On a full disk the line is given up: supervising goes on.
    pub(crate) fn note(&self, message: impl Display) {
        let now = Timestamp::now().round(Unit::Millisecond).unwrap_or_else(|_| Timestamp::now());
        // One line an entry, whatever a VMM or guest put into the message.
        let message = message.to_string().replace(|c: char| c.is_control(), " ");
        if let Some(lines) = &self.lines {
            let _ = lines.send(format!("{now} [{}] {message}\n", std::process::id()));
        }
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
