//! What is said on the shim's socket: one JSON object a line, a response for each request, in order.

use serde::{Deserialize, Serialize};

use crate::end::End;
use crate::state::State;

/// Asked of the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// In which state is the VM?
    State,
    /// Press the power button, and end the VM by force when it has not ended in time. Answered when it has ended.
    Stop {
        /// Time in milliseconds the guest is given.
        timeout_ms: u64,
    },
    /// Press the power button and leave it at that.
    PowerButton,
    /// End the VM at once. Answered when it has ended.
    Kill,
    /// As `kill`, for an instance that is about to be removed: on a full disk, what cannot be written is given up.
    Discard,
    /// Send the program in the guest a signal.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// Answered when the VM has ended. An instance that removes itself waits until the asker has hung up.
    Wait,
}

/// The shim's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::State`].
    State {
        /// The state.
        state: State,
    },
    /// It was done.
    Done,
    /// The VM has ended.
    Ended {
        /// How.
        end: End,
    },
    /// It could not be done.
    Error {
        /// Why.
        message: String,
    },
}

/// The shim's first word to whoever started it, one line of JSON on its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "start", rename_all = "kebab-case")]
pub enum Started {
    /// The guest runs, and its console is being kept.
    Ready,
    /// Nothing runs.
    Failed {
        /// Why.
        message: String,
    },
}
