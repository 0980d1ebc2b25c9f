//! Starts programs: with a clean environment, a timeout, their descriptors, and somebody who
//! reaps them.
//!
//! Owns the one way in which hypeman starts processes. One that lives as long as a VM (a shim, a
//! DNS server, a compression) outlives the function that started it; in a starter that lives on,
//! such as a server, [`reap`] keeps it from becoming a zombie.
//!
//! Must not know: VMs.

mod command;
mod reap;
mod run;
mod spawn;

pub use command::{hypeman, program};
pub use reap::reap;
pub use run::run;
pub use spawn::spawn;
