//! Processes of ours that outlive whoever has started them.

use std::path::Path;
use std::process::Command;

/// What of the caller's environment they have a use for. The rest may hold secrets, and would stay in memory as long as the VM.
const KEPT: [&str; 3] = ["PATH", "RUST_BACKTRACE", "TZ"];

/// A command that runs `hypeman` with a clean environment. Descriptors of the caller's are none of ours: `hypeman` has closed them to
/// those whom it starts when it began.
pub(crate) fn command(hypeman: &Path) -> Command {
    let mut command = Command::new(hypeman);
    command.env_clear().envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}
