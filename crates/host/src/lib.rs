//! One host and all that can be done there: [`Host`] has one function for each operation, and a
//! request type with docker's defaults where there is something to choose. They block, and may be
//! called from many threads.
//!
//! Owns the records below the data directory, and is the only crate that locks an instance. The
//! directory of an instance is the truth; there is no database and no daemon, and a state is never
//! stored: it is asked of the shim, the VMM's process and the disk. What is said to a running VM is
//! in `hypeman-session`. Knows no command line, no terminal and no HTTP.

mod accelerator;
mod adopt;
mod attach;
mod cmdline;
pub mod command;
mod compress;
pub mod config;
pub mod console;
mod create;
mod delete;
pub mod doctor;
pub mod error;
mod foreign;
pub mod fork;
pub mod health;
pub mod host;
pub mod instance;
mod layout;
mod machine;
mod name;
pub mod named;
mod nap;
pub mod network;
pub mod networks;
pub mod observe;
mod options;
mod parallel;
mod pause;
mod processes;
pub mod pulls;
mod rename;
pub mod request;
pub mod resources;
mod resume;
mod rewind;
pub mod runtimes;
pub mod signal;
pub mod size;
pub mod snapshots;
mod spawn;
mod standby;
mod start;
pub mod stats;
mod stop;
mod store;
pub mod usage;
pub mod verbs;
pub mod views;
mod visit;
pub mod watch;

pub use attach::how_it_ended;
pub use compress::TASK as COMPRESSION_TASK;
pub use config::Config;
pub use error::{Error, Field, Needs, Result};
pub use host::Host;
