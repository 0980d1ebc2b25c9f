//! Waits for a log to change.

use std::path::Path;

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};

/// Tells when something in the directory of a log has changed. Needs a tokio runtime.
pub struct Watch {
    events: EventStream<[u8; 4096]>,
}

impl Watch {
    /// Watches the log at `path`, which need not exist yet. Watch first and read then: what comes in between is told.
    ///
    /// # Errors
    /// When its directory is not there, or this user watches too much already (`/proc/sys/fs/inotify`).
    pub fn on(path: &Path) -> std::io::Result<Watch> {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inotify = Inotify::init()?;
        let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
        inotify.watches().add(directory, mask)?;
        Ok(Watch { events: inotify.into_event_stream([0; 4096])? })
    }

    /// Waits for a change since the last call.
    ///
    /// # Errors
    /// When the system stops telling.
    pub async fn changed(&mut self) -> std::io::Result<()> {
        match self.events.next().await {
            Some(event) => event.map(drop),
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watch").finish_non_exhaustive()
    }
}
