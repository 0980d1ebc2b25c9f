//! Protocol of the shim's socket: one JSON object a line, a response for each request, in order.

use serde::{Deserialize, Serialize};

use crate::end::End;
use crate::guest::health::Health;
use crate::kind::Kind;
use crate::state::State;

/// A message as it is sent: its JSON and a newline.
///
/// # Errors
/// None for the messages of this module, which are made of strings, numbers and times.
pub fn line(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Asked of the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Hello, the first request on a connection. Shims of before there was such a request answer it
    /// with an error and go on.
    Hello {
        /// The release that asks.
        release: String,
    },
    /// In which state is the VM?
    State,
    /// Press the power button, and end the VM by force when it has not ended in time. Answered when
    /// its VMM has ended.
    Stop {
        /// Time in milliseconds the guest is given.
        timeout_ms: u64,
    },
    /// Press the power button and leave it at that.
    PowerButton,
    /// End the VM at once. Answered when its VMM has ended.
    Kill,
    /// As `kill`, for an instance that is about to be removed: on a full disk, what cannot be
    /// written is given up.
    Discard,
    /// Send the program in the guest a signal.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// Stop the VM's vCPUs. Answered when they stand.
    Pause,
    /// Let them go on.
    Resume,
    /// Write a snapshot of the VM, and end its VMM. Answered when that is done, or has failed and
    /// the VM runs on.
    Standby,
    /// Leave the VM as it runs, for another shim to take over. Answered when it is decided; it is
    /// done when the shim has ended.
    HandOver,
    /// Type to the guest: what follows the answer on this connection are no more requests but keys,
    /// to its end. What the guest says is in its log.
    Attach,
    /// Speak with the guest's agent: what follows the answer on this connection, both ways, is one
    /// exchange with it. Answered when the agent is there.
    Agent,
    /// Answered when the VM has ended and all that it printed is written. An instance that removes
    /// itself waits until the asker has hung up.
    Wait,
    /// Tell the state of the VM, and each that follows, until it has ended: a [`Response::Seen`]
    /// each. The last one has its end, and then all that it printed is written. An instance that
    /// removes itself waits until the asker has hung up.
    Watch,
}

impl Request {
    /// The `op` of every request that shims understood before they told so.
    pub const FIRST_ABILITIES: [&str; 7] =
        ["state", "stop", "power-button", "kill", "discard", "signal", "wait"];

    /// The `op` of every request that this release understands.
    pub const ABILITIES: [&str; 14] = [
        "state",
        "stop",
        "power-button",
        "kill",
        "discard",
        "signal",
        "wait",
        "hand-over",
        "pause",
        "resume",
        "standby",
        "attach",
        "agent",
        "watch",
    ];

    /// Its `op`: what a shim has to be able to do.
    #[must_use]
    pub fn ability(&self) -> String {
        let request = serde_json::to_value(self).unwrap_or_default();
        request["op"].as_str().unwrap_or_default().to_owned()
    }
}

/// The shim's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Hello`].
    Hello {
        /// The shim's release.
        release: String,
        /// The requests that it understands, by their `op`.
        abilities: Vec<String>,
    },
    /// To [`Request::State`].
    State {
        /// The state.
        state: State,
        /// Explanation of the state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Result of the health checks, if there are any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        health: Option<Health>,
        /// Events of the console's log; shims of before these were counted do not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        console: Option<Counts>,
    },
    /// To [`Request::Watch`].
    Seen(Seen),
    /// It was done.
    Done,
    /// The VM has ended.
    Ended {
        /// How.
        end: End,
        /// Whether what it printed still waits to be written: the disk is full, or slow. Only those
        /// who have asked for the end are answered before it is.
        #[serde(default)]
        unwritten: bool,
    },
    /// It could not be done.
    Error {
        /// Why, in a word.
        #[serde(default)]
        kind: Refusal,
        /// The kind of the error behind that; shims of before there was such do not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Kind>,
        /// Why, in a sentence.
        message: String,
    },
}

/// Events of a console's log since the shim has captured it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Bytes that were lost, each told in the log.
    pub lost: u64,
    /// Rotations of the log that were ours.
    pub rotations: u64,
    /// Times at which the log could not be written, or the disk was too slow for the guest.
    pub stalls: u64,
}

/// State of a VM as its shim sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Grows with each change of the VM, also from one shim to the next, until the host is booted
    /// again.
    pub generation: u64,
    /// The state.
    pub state: State,
    /// Explanation of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Result of the health checks, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How it ended, when it has and all that it printed is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

impl Seen {
    /// This, after what was seen last, with a generation of its own; `None` if it is the same.
    #[must_use]
    pub fn after(&self, last: Option<&Seen>) -> Option<Seen> {
        let generation = last.map_or(0, |last| last.generation);
        let is_same = last.is_some_and(|last| Seen { generation, ..self.clone() } == *last);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000;
        (!is_same).then(|| Seen { generation: now.max(generation + 1), ..self.clone() })
    }
}

/// Why a shim has not done what it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The request was not understood.
    NotUnderstood,
    /// The VM is in a state that forbids it.
    WrongState,
    /// Nobody of ours is in the guest: no init, no agent.
    NoInit,
    /// The guest does not take what it was sent.
    GuestBusy,
    /// Its snapshot could not be written.
    NotSaved,
    /// The VMM does not answer.
    VmmSilent,
    /// The VMM has refused.
    VmmRefused,
    /// Anything else; what shims of before there were kinds have said.
    #[default]
    #[serde(other)]
    Other,
}

impl Refusal {
    /// Its kind, where no more is known.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Refusal::NotUnderstood | Refusal::NoInit => Kind::Unsupported,
            Refusal::WrongState => Kind::WrongState,
            Refusal::GuestBusy => Kind::Guest,
            Refusal::VmmSilent => Kind::Silent,
            Refusal::NotSaved | Refusal::VmmRefused => Kind::Vmm,
            Refusal::Other => Kind::Internal,
        }
    }
}

/// The shim's first message to its starter, one line of JSON on its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "start", rename_all = "kebab-case")]
pub enum Started {
    /// The guest runs, and its console is being kept.
    Ready,
    /// Nothing runs.
    Failed {
        /// The kind of the error.
        #[serde(default)]
        kind: Kind,
        /// Why.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ability_is_a_request() {
        for op in Request::ABILITIES {
            let text = format!(r#"{{"op": "{op}", "timeout_ms": 1, "signal": 15}}"#);
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap().ability(), op);
        }
    }

    /// A recorded conversation with a shim of commit 553522b: `testdata/README.md`.
    #[test]
    fn the_words_of_553522b_s_shims_are_understood() {
        let text = include_str!("../testdata/553522b/conversation.jsonl");
        for line in text.lines() {
            let said: serde_json::Value = serde_json::from_str(line).unwrap();
            let request: Request = serde_json::from_value(said["request"].clone()).unwrap();
            assert_eq!(serde_json::to_value(&request).unwrap(), said["request"], "as it was said");
            let response: Response = serde_json::from_value(said["response"].clone()).unwrap();
            match (request, response) {
                (Request::Hello { .. }, Response::Hello { abilities, .. }) => {
                    assert!(abilities.iter().all(|ability| Request::ABILITIES.contains(&ability.as_str())));
                }
                (Request::Signal { .. }, Response::Error { kind: Refusal::NoInit, cause: None, .. })
                | (Request::Watch, Response::Error { kind: Refusal::NotUnderstood, .. })
                | (Request::State, Response::State { .. })
                | (Request::Pause | Request::Resume | Request::PowerButton, Response::Done)
                | (Request::Kill, Response::Ended { unwritten: false, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// A recorded conversation with a shim of before there was a hello: `testdata/README.md`.
    #[test]
    fn the_words_of_older_shims_are_still_understood() {
        let text = include_str!("../testdata/before-formats/conversation.jsonl");
        for line in text.lines() {
            let said: serde_json::Value = serde_json::from_str(line).unwrap();
            let response: Response = serde_json::from_value(said["response"].clone()).unwrap();
            let op = said["request"]["op"].as_str().unwrap();
            if op == "hello" {
                assert!(matches!(response, Response::Error { .. }), "{response:?}");
                continue;
            }
            let request: Request = serde_json::from_value(said["request"].clone()).unwrap();
            assert_eq!(serde_json::to_value(&request).unwrap(), said["request"], "as it was said");
            assert_eq!(request.ability(), op);
            assert!(Request::FIRST_ABILITIES.contains(&op));
            assert!(!matches!(response, Response::Error { .. }), "{response:?}");
        }
    }
}
