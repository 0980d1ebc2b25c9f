//! Work beside what the command waits for.

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

/// A runtime for the commands that wait for several things at once.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// Does something that blocks in a thread of its own. Unlike a blocking task of the runtime's, it does not keep the
/// process from ending.
pub(crate) fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver
}
