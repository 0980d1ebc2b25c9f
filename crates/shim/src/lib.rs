//! The supervisor of one VM: parent of the VMM, owner of the console, and nothing else.
//!
//! It runs as a process of its own (`hypeman shim DIR`), in its own session, so that whoever started it may die. One
//! thread reads and answers; others only write what may have to wait for a disk. It keeps no more in memory than what is on
//! its way from the guest to the disk.

mod agent;
mod attach;
mod begin;
mod confine;
mod driver;
mod error;
mod guest;
mod halt;
mod journal;
mod keep;
mod logs;
mod memory;
mod mode;
mod network;
mod old_init;
mod order;
mod policy;
mod process;
mod relay;
mod room;
mod schedule;
mod server;
mod session;
mod shared;
mod standby;
mod supervisor;
mod vm;
mod watch;
mod work;

use std::path::Path;

use hypeman_record::protocol::Started;

pub use error::{Error, Result};
pub use mode::Mode;

/// Supervises the VM that the launch order in `directory` describes until it has ended. Standard input is the listening
/// socket on which to answer; standard output takes one line, [`Started`], as soon as it is known.
///
/// # Errors
/// When the VM could not be started or taken over; whoever reads standard output has been told then.
pub fn run(directory: &Path, mode: Mode) -> Result<()> {
    let result = process::become_shim(directory).and_then(|identity| supervisor::supervise(identity, mode));
    if let Err(error) = &result {
        process::say(&Started::Failed { kind: error.kind, message: error.reason.clone() });
    }
    result
}
