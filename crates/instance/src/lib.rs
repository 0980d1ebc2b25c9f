//! Instances: their records on disk, their states told from the truth, and their life from create to delete.
//!
//! The directory of an instance is the truth; there is no database and no daemon. What lies in it, and what is said to the
//! shim, is in the crate `hypeman-record`. The state is never stored: [`observe::observe`] asks the shim, the VMM's process and
//! the disk.

mod accelerator;
pub mod adopt;
pub mod attach;
pub mod client;
mod cmdline;
pub mod command;
pub mod compress;
pub mod create;
pub mod delete;
pub mod error;
pub mod foreign;
pub mod fork;
pub mod health;
pub mod instance;
pub mod layout;
mod machine;
pub mod name;
pub mod network;
pub mod observe;
pub mod options;
mod parallel;
pub mod pause;
mod processes;
pub mod rename;
pub mod rewind;
pub mod signal;
pub mod snapshots;
pub mod spawn;
pub mod standby;
pub mod start;
pub mod stop;
pub mod store;
pub mod visit;

pub use error::{Error, Field, Needs, Result};
