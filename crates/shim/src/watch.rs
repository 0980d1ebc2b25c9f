//! Sends each state of a VM to its watchers.

use std::rc::Rc;
use std::time::Duration;

use hypeman_record::protocol::{self, Response};
use hypeman_record::state::State;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use crate::shared::Shared;

/// Interval for polling whether a guest that boots runs its program by now.
const LOOK: Duration = Duration::from_millis(50);

/// Tells each state to the end of the VM. One whose instance removes itself then waits until the
/// watcher has hung up, who may still be reading the logs.
pub(crate) async fn tell(
    mut watcher: impl AsyncRead + Unpin,
    mut to_watcher: impl AsyncWrite + Unpin,
    shared: &Rc<Shared>,
) -> std::io::Result<()> {
    let mut published = shared.published.subscribe();
    let mut told = None;
    let mut nothing = [0; 64];
    loop {
        published.mark_unchanged();
        let seen = shared.seen();
        let (boots, has_ended) = (seen.state == State::Initializing, seen.end.is_some());
        if told != Some(seen.generation) {
            told = Some(seen.generation);
            to_watcher.write_all(&protocol::line(&Response::Seen(seen))?).await?;
        }
        if has_ended {
            break;
        }
        tokio::select! {
            changed = published.changed() => if changed.is_err() { break },
            () = sleep(LOOK), if boots => {}
            count = watcher.read(&mut nothing) => if count? == 0 { return Ok(()) },
        }
    }
    while shared.launch.auto_remove && watcher.read(&mut nothing).await? > 0 {}
    Ok(())
}
