//! Report of init to the host, on the status disk.

use serde::{Deserialize, Serialize};

/// Size of the status disk in bytes.
pub const DISK_SIZE: u64 = 4096;

/// Written by init at offset 0 of the status disk, each time as one whole 4096-byte block padded
/// with NULs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Status {
    /// The command runs (exec mode) or is about to be exec'ed (systemd mode).
    Running,
    /// The command ended by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// The command was ended by a signal.
    Signaled {
        /// The signal's number; a shell shows 128 more.
        signal: i32,
    },
    /// The command could not be started, or the guest could not be set up.
    Failed {
        /// 127 when the command was not found, 126 when it could not be executed, 125 for every
        /// other reason (docker's numbers).
        code: i32,
        /// One line for the user.
        message: String,
    },
}
