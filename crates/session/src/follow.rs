//! Follows a log until its VM ends.

use std::path::Path;
use std::pin::Pin;

use hypeman_console::reader::{Reader, Start};
use hypeman_console::watch::Watch;

/// Follows a log until its VM ends, and returns the end.
pub struct Follower<T> {
    /// Reads the log.
    pub reader: Reader,
    watch: Watch,
    ended: Pin<Box<dyn Future<Output = T> + Send>>,
    end: Option<T>,
}

impl<T> Follower<T> {
    /// Begins to follow the log at `path`. `ended` is done when the VM has ended and all that it
    /// printed is on disk.
    ///
    /// # Errors
    /// When the log cannot be read or watched.
    pub fn open(
        path: &Path,
        start: Start,
        ended: impl Future<Output = T> + Send + 'static,
    ) -> std::io::Result<Follower<T>> {
        // Someone may have removed its directory: the log's writer makes it again.
        if let Some(directory) = path.parent() {
            let _ = std::fs::create_dir(directory);
        }
        let watch = Watch::on(path)?; // first: what comes before it is read is told
        Ok(Follower { reader: Reader::open(path, start)?, watch, ended: Box::pin(ended), end: None })
    }

    /// Waits until there may be more to read; `false` at the end. To be called when the reader has
    /// nothing more. May be dropped in between.
    ///
    /// # Errors
    /// When the log cannot be watched any more.
    pub async fn more(&mut self) -> std::io::Result<bool> {
        if self.end.is_some() {
            return Ok(false);
        }
        tokio::select! {
            changed = self.watch.changed() => changed?,
            end = &mut self.ended => self.end = Some(end), // what it printed last is still to be read
        }
        Ok(true)
    }

    /// Returns the end of the VM, when it has come.
    pub fn into_end(self) -> Option<T> {
        self.end
    }
}

impl<T> std::fmt::Debug for Follower<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Follower").field("reader", &self.reader).finish_non_exhaustive()
    }
}
