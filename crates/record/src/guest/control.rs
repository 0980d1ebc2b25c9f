//! Requests of the host to the inits of releases before there was an agent, which go on in
//! snapshots of theirs.

use serde::{Deserialize, Serialize};

/// One line of JSON on the control port, host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// Send a signal to the command (exec mode only).
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The guest has slept, and may be another machine now.
    Wake {
        /// The host's time, in nanoseconds since 1970.
        unix_nanoseconds: u64,
        /// The guest's host name.
        hostname: String,
    },
}
