//! The supervisor of one VM, the shim: parent of the VMM and owner of the console.
//!
//! Owns one VM from its start to the record of its end, as a process of its own (`hypeman shim
//! DIR`), in its own session, so that its starter may die. One thread reads and answers; others
//! only write to disks. It keeps in memory only what is on its way to the disk.
//!
//! Must not know: other instances, images, the command line.

mod agent;
mod attach;
mod begin;
mod care;
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

/// Supervises the VM that the launch order in `directory` describes until it has ended. Standard
/// input is the listening socket on which to answer; standard output takes one line, [`Started`],
/// as soon as it is known.
///
/// # Errors
/// When the VM could not be started or taken over; the reader of standard output has been told
/// then.
pub fn run(directory: &Path, mode: Mode) -> Result<()> {
    let result = process::become_shim(directory).and_then(|identity| supervisor::supervise(identity, mode));
    if let Err(error) = &result {
        process::say(&Started::Failed { kind: error.kind, message: error.reason.clone() });
    }
    result
}
