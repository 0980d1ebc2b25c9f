//! Work that blocks, in a thread of its own.

use tokio::sync::oneshot;

/// Name of these threads.
const THREAD: &str = "hypeman-aside";

/// Runs something that blocks on a thread of its own. Unlike a blocking task of the runtime, it
/// does not keep the process from ending. When the system has no more threads, the receiver fails.
pub fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let _ = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || sender.send(work()));
    receiver
}
