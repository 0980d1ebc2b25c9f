//! Starts programs: with a clean environment, a limit in time, and somebody who reaps them.
//!
//! It knows nothing of VMs. A process that lives as long as a VM (a shim, a DNS server, a compression)
//! outlives the function that has started it, and may outlive its starter; in a starter that lives on,
//! such as a server, [`reap`] keeps it from becoming a zombie.

mod command;
mod reap;
mod run;

pub use command::{hypeman, program};
pub use reap::reap;
pub use run::run;
