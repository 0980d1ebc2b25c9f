//! Compression in the background: a process of its own, which outlives its starter.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use hypeman_files::AtPath;
use hypeman_snapshot::Algorithm;

use crate::error::Result;

/// Name of the task by which `hypeman` starts itself for a compression.
pub const TASK: &str = "compress-snapshot";

/// Has the program `hypeman` compress the snapshot in `directory`, and does not wait for it. What
/// becomes of it can be read from the snapshot's summary ([`hypeman_snapshot::summary::Summary`]).
///
/// # Errors
/// When it cannot be started.
pub(crate) fn begin(directory: &Path, algorithm: Algorithm, hypeman: &Path) -> Result<()> {
    let mut command = hypeman_process::hypeman(hypeman);
    command.arg(TASK).arg(directory).arg(algorithm.name()).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    hypeman_process::reap(command.spawn().at(hypeman)?);
    Ok(())
}
