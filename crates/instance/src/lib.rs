//! Instances: their records on disk, their states told from the truth, and their life from create to delete.
//!
//! The directory of an instance is the truth; there is no database and no daemon. Three files share the work, and each
//! has one writer:
//!
//! - `instance.json` ([`record::Record`]): what the user asked for. Written under the instance's lock.
//! - `launch.json` ([`launch::Launch`]): what that came to for one start (paths, accelerator). Written before the shim is
//!   started.
//! - `run.json` ([`run::Run`]): pids, times and how it ended. Written by the shim alone.
//!
//! The state is never stored: [`observe::observe`] asks the shim, the VMM's process and the disk.

pub mod accelerator;
pub mod client;
mod cmdline;
pub mod command;
pub mod create;
pub mod delete;
pub mod end;
pub mod error;
pub mod launch;
pub mod layout;
pub mod name;
pub mod observe;
pub mod options;
pub mod process;
pub mod protocol;
pub mod record;
pub mod run;
pub mod signal;
pub mod start;
pub mod state;
pub mod status;
pub mod stop;
pub mod store;

pub use error::{Error, Result};
