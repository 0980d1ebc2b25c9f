//! Minimum speed of a transfer: one that stalls must not keep us for ever, and neither one
//! that drips.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Least bytes that have to come in each window.
pub(super) const LEAST: u64 = 60 << 10;

/// The window.
const WINDOW: Duration = Duration::from_secs(60);

/// A transfer's progress in the current window.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    window: Duration,
    begun: Option<Instant>,
    bytes: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace::with_window(WINDOW)
    }
}

impl Pace {
    /// A pace with another window.
    pub(crate) fn with_window(window: Duration) -> Pace {
        Pace { window, begun: None, bytes: 0 }
    }

    /// The same for a transfer that begins now.
    pub(crate) fn begin(&self) -> Pace {
        Pace { begun: Some(Instant::now()), bytes: 0, ..self.clone() }
    }

    /// Waits for something, no longer than the window lasts; `None` when it is over.
    pub(crate) async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.begun.unwrap_or_else(Instant::now) + self.window, work).await.ok()
    }

    /// So many bytes came; `None` when that is too slow. A fast transfer begins a window with each
    /// of its pieces.
    pub(crate) fn advance(&mut self, bytes: usize) -> Option<()> {
        self.bytes += bytes as u64;
        if self.bytes >= LEAST {
            *self = self.begin();
        }
        (self.begun.unwrap_or_else(Instant::now).elapsed() < self.window).then_some(())
    }
}
