//! Frames of a command that is run over a websocket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null::null_is_default;

/// First frame, from the client: the command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecRequest {
    /// Program and arguments; `/bin/sh` when empty.
    #[serde(deserialize_with = "null_is_default")]
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Variables added to its environment.
    #[serde(deserialize_with = "null_is_default")]
    pub env: BTreeMap<String, String>,
    /// Its working directory; that of the VM's program when empty.
    #[serde(deserialize_with = "null_is_default")]
    pub cwd: String,
    /// Its user; ours alone, clients of upstream do not know it.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// Timeout in seconds; 0 for none.
    #[serde(deserialize_with = "null_is_default")]
    pub timeout: u64,
    /// How many seconds the guest's agent is waited for.
    #[serde(deserialize_with = "null_is_default")]
    pub wait_for_agent: u64,
    /// Lines of its terminal.
    #[serde(deserialize_with = "null_is_default")]
    pub rows: u16,
    /// Characters in each.
    #[serde(deserialize_with = "null_is_default")]
    pub cols: u16,
}

/// Text frame of a client while a command with a terminal runs: the terminal has another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// The size.
    pub resize: Size,
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in each.
    pub cols: u16,
}

/// Last frame, from the server. Upstream's Python client refuses any other field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Exit code: 128 and the signal that ended it, 124 after the timeout, 127 if it could not be
    /// run.
    #[serde(rename = "exitCode")]
    pub exit_code: i32,
}
