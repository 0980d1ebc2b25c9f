//! Vocabulary of the command line, the shims and other managers of instances: the records in an
//! instance's
//! directory and the words on its shim's socket. Nothing here does anything to an instance.
//!
//! Three records share the work, and each has one writer:
//!
//! - `instance.json` ([`record::Record`]): what the user asked for. Written under the instance's
//!   lock.
//! - `launch.json` ([`launch::Launch`]): what that came to for one start (paths, accelerator).
//!   Written before the shim is started.
//! - `run.json` ([`run::Run`]): pids, times and how it ended. Written by the shim alone.
//!
//! Every record has a [`format`](mod@format), because those who read it may be of another release
//! than those who wrote it.
//!
//! Must not know: anything that acts; it depends on serde and `files` only.

pub mod confinement;
pub mod data_dir;
pub mod descriptors;
pub mod end;
pub mod format;
pub mod guest;
pub mod kind;
pub mod launch;
pub mod named;
pub mod names;
pub mod network;
pub mod process;
pub mod program;
pub mod protocol;
pub mod pull;
pub mod record;
pub mod run;
pub mod spec;
pub mod state;
pub mod status;
pub mod unknown;
