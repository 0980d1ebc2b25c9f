//! Messages of the VMM on its event monitor (`event_monitor/src/lib.rs`): JSON objects, one after
//! the other.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use hypeman_files::AtPath;
use rustix::fs::{CWD, Mode, OFlags};
use serde::Deserialize;
use tokio::net::unix::pipe::Receiver;

use crate::error::Result;
use crate::fifo;

/// The FIFO that the VMM writes its events to.
const EVENTS: &str = "events";

/// Maximum length of an event in bytes. All those that we look for have less than 200.
const MAX_EVENT: usize = 64 * 1024;

/// An event.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Event {
    /// `vm`, `vmm`, or the kind of a device.
    pub(crate) source: String,
    /// Name of the event.
    pub(crate) event: String,
}

/// The VMM's end of the FIFO, for reading too: so it is the VMM's as long as that lives, whoever
/// reads it or dies.
pub(crate) fn make_fifo(directory: &Path) -> Result<File> {
    let path = directory.join(EVENTS);
    fifo::make(&path)?;
    open(&path, OFlags::RDWR).map(File::from)
}

/// The events of a VMM, from the oldest that nobody has read.
#[derive(Debug)]
pub(crate) struct Events {
    pipe: Receiver,
    unread: Vec<u8>,
}

impl Events {
    /// Opens our end of the FIFO.
    pub(crate) fn open(directory: &Path) -> Result<Events> {
        let path = directory.join(EVENTS);
        let pipe = Receiver::from_owned_fd(open(&path, OFlags::RDONLY | OFlags::NONBLOCK)?).at(&path)?;
        Ok(Events { pipe, unread: Vec::new() })
    }

    /// The next event; `None` when the VMM has ended, or says what is no event.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = take(&mut self.unread) {
                return event.ok();
            }
            if self.unread.len() > MAX_EVENT {
                return None;
            }
            self.pipe.readable().await.ok()?;
            match self.pipe.try_read_buf(&mut self.unread) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).at(path)?)
}

/// Takes the first event off `unread`, if it is whole.
fn take(unread: &mut Vec<u8>) -> Option<serde_json::Result<Event>> {
    let mut values = serde_json::Deserializer::from_slice(unread).into_iter::<Event>();
    let event = values.next()?;
    let end = values.byte_offset();
    match event {
        Err(error) if error.is_eof() => None,
        event => {
            unread.drain(..end);
            Some(event)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_one_by_one_however_they_arrive() {
        let text = b"{\n \"source\": \"vm\",\n \"event\": \"booting\",\n \"properties\": null }\n\n{\"source\":\"vm\",\"event\":\"booted\"}\n\n";
        let mut unread = Vec::new();
        let mut events = Vec::new();
        for byte in text {
            unread.push(*byte);
            while let Some(event) = take(&mut unread) {
                events.push(event.unwrap().event);
            }
        }
        assert_eq!(events, ["booting", "booted"]);
        assert!(take(&mut b"nonsense".to_vec()).unwrap().is_err());
    }
}
