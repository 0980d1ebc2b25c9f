//! `hypeman.log`: what we did, and why.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::Path;

use hypeman_console::log::{Limits, Log};
use jiff::{Timestamp, Unit};

/// The log of our own deeds, bounded like the guest's.
#[derive(Debug)]
pub(crate) struct Journal {
    log: RefCell<Log>,
}

impl Journal {
    /// Opens or makes the log.
    pub(crate) fn open(path: &Path, limits: Limits) -> hypeman_console::log::Result<Journal> {
        Ok(Journal { log: RefCell::new(Log::open(path, limits)?) })
    }

    /// Adds a line. On a full disk the line is given up: supervising goes on.
    pub(crate) fn note(&self, message: impl Display) {
        let now = Timestamp::now().round(Unit::Millisecond).unwrap_or_else(|_| Timestamp::now());
        // One line an entry, whatever a VMM or guest put into the message.
        let message = message.to_string().replace(|c: char| c.is_control(), " ");
        let line = format!("{now} [{}] {message}\n", std::process::id());
        let _ = self.log.borrow_mut().append(line.as_bytes());
    }
}
