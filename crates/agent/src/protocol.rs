//! Requests to the agent and its answers. Everything is JSON in frames; a stream carries one
//! exchange, which begins with a
//! [`Request`]. Paths and arguments are as [`crate::names`] tells them.

use std::collections::BTreeMap;

use hypeman_record::guest::config::GuestNetwork;
use hypeman_record::guest::health::Health;
use serde::{Deserialize, Serialize};

/// So many bytes of a command's input may be sent before it [`Ran::Wants`] more.
pub const INPUT_WINDOW: u32 = 256 * 1024;

/// The first message on a stream, from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// The shim's own stream: it sends [`Order`]s, and is sent [`Report`]s.
    Control,
    /// Run a command. The agent answers with [`Ran`]; `Data` to it is the command's input, `Data`
    /// and `Error` from it its output.
    Exec(Exec),
    /// Look at a path. Answered with [`Found`].
    Stat {
        /// Absolute, or relative to the root.
        path: String,
        /// Whether a link is followed at its end.
        follow: bool,
    },
    /// Which processes run? Answered with a [`Processes`].
    Top,
    /// Send what is at a path, as a tar stream: [`Copied`], `Data`, `End`, [`Copied`].
    Read {
        /// As for `Stat`.
        path: String,
        /// Whether a link is followed that the path itself is.
        follow: bool,
        /// Its name in the archive.
        name: String,
    },
    /// Take a tar stream apart below a directory: [`Copied`], then `Data` and `End` to it, and
    /// [`Copied`] again.
    Write {
        /// As for `Stat`.
        path: String,
        /// Whether owners are those of the archive; else root's.
        archive: bool,
    },
}

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the environment of the VM's program.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Absolute; `None` is that of the VM's program.
    #[serde(default)]
    pub workdir: Option<String>,
    /// `user[:group]`; `None` is that of the VM's program.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether its input is what comes over the stream; else it is empty.
    #[serde(default)]
    pub interactive: bool,
    /// The size of the terminal that it gets; `None` is none.
    #[serde(default)]
    pub terminal: Option<Size>,
    /// Whether it is left alone once it runs.
    #[serde(default)]
    pub detach: bool,
    /// After how many milliseconds it is ended.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in each.
    pub columns: u16,
}

/// Said to a command that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Say {
    /// The terminal has another size.
    Resize(Size),
    /// Send it a signal.
    Signal {
        /// Its number.
        signal: i32,
    },
}

/// Events of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ran", rename_all = "kebab-case")]
pub enum Ran {
    /// It runs.
    Started {
        /// Its number in the guest.
        pid: u32,
    },
    /// It does not come to run.
    Failed(Failure),
    /// So many bytes more of its input may be sent.
    Wants {
        /// Added to what it has been.
        bytes: u32,
    },
    /// It has ended, and this is the last message.
    Exited {
        /// Its exit code, or 128 and the number of the signal that has ended it.
        code: i32,
    },
    /// It was ended since its time was up.
    TimedOut,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", crate::brief(message))]
pub struct Failure {
    /// Docker's number: 127 when something was not found, 126 when it cannot be executed, 125
    /// otherwise.
    pub code: i32,
    /// One line for the user.
    pub message: String,
}

/// File at a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Whether there is something. What a link leads to that is broken is not there.
    pub exists: bool,
    /// A directory.
    #[serde(default)]
    pub is_dir: bool,
    /// A plain file.
    #[serde(default)]
    pub is_file: bool,
    /// A symbolic link.
    #[serde(default)]
    pub is_symlink: bool,
    /// Where that leads.
    #[serde(default)]
    pub link_target: Option<String>,
    /// Type and permissions, as stat(2) has them.
    #[serde(default)]
    pub mode: u32,
    /// In bytes.
    #[serde(default)]
    pub size: u64,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
    /// When its contents were changed, in seconds since 1970.
    #[serde(default)]
    pub modified: i64,
    /// Why it cannot be looked at.
    #[serde(default)]
    pub error: Option<String>,
}

/// Process in the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Each of them, but for the kernel's own threads.
    pub processes: Vec<ProcessInfo>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub ppid: i32,
    /// The user it runs as.
    pub uid: u32,
    /// The user's name, where the guest has one.
    #[serde(default)]
    pub user: Option<String>,
    /// One letter, as ps(1) has it.
    pub state: char,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Memory in bytes.
    pub rss: u64,
    /// How long it runs, in milliseconds.
    pub age_ms: u64,
    /// Program and arguments.
    pub command: String,
}

/// A step of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "copied", rename_all = "kebab-case")]
pub enum Copied {
    /// Everything for it is there: it begins.
    Begins,
    /// It is complete.
    Done {
        /// Files left out of it, in a sentence.
        #[serde(default)]
        note: Option<String>,
    },
    /// It is not.
    Failed(Failure),
}

/// From the shim to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Send the program a signal; where an init system of the image's own runs, that is the
    /// program.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Ask the program to end.
    Stop,
    /// Let nothing run but the agent, for the guest's memory is about to be saved. Without a word
    /// after it this is over in a moment.
    Freeze,
    /// Let everything run. When the guest has slept, that is told first.
    Thaw {
        /// Report of the standby.
        #[serde(default)]
        slept: Option<Box<Slept>>,
    },
}

/// Report of a standby, for the guest before it thaws.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slept {
    /// The host's time, in nanoseconds since 1970.
    pub unix_nanoseconds: u64,
    /// The guest's host name, another one in a fork.
    pub hostname: String,
    /// The machine-id of a fork, which gets another one with its name.
    pub machine_id: String,
    /// Random numbers in hexadecimal, for the kernel.
    pub seed: String,
    /// The guest's network, another one in a fork.
    #[serde(default)]
    pub network: Option<GuestNetwork>,
}

/// From the agent to the shim. Each order is answered by one `Done` or `Failed`, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum Report {
    /// The first word.
    Hello {
        /// The agent's release.
        release: String,
    },
    /// An order was carried out.
    Done,
    /// One was not.
    Failed {
        /// Why.
        message: String,
    },
    /// How the program is, each time that this is looked at.
    Health(Health),
}
