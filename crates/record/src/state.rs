//! The states of an instance.

use serde::{Deserialize, Serialize};

/// The states of upstream's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Never started.
    Created,
    /// The VM runs; its program does not yet.
    Initializing,
    /// The program runs.
    Running,
    /// The vCPUs are stopped.
    Paused,
    /// The VMM runs without a running VM.
    Shutdown,
    /// There is no VMM.
    Stopped,
    /// There is no VMM, and a snapshot to go on from.
    Standby,
    /// The truth cannot be found out.
    Unknown,
}

impl State {
    /// Whether a VMM is there.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, State::Initializing | State::Running | State::Paused | State::Shutdown)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            State::Created => "Created",
            State::Initializing => "Initializing",
            State::Running => "Running",
            State::Paused => "Paused",
            State::Shutdown => "Shutdown",
            State::Stopped => "Stopped",
            State::Standby => "Standby",
            State::Unknown => "Unknown",
        })
    }
}
