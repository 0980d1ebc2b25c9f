//! Counts of a console's log.

use hypeman_console::log::written;
use hypeman_record::names;
use hypeman_record::protocol::Counts;

use crate::instance::Instance;
use crate::observe::Observation;

/// Counts of a console's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Console {
    /// Bytes that were ever written to the log, over all runs and files; `None` on a file system
    /// without extended attributes.
    pub captured: Option<u64>,
    /// Events since its shim has captured it; `None` when none does, or one of before they were
    /// counted.
    pub events: Option<Counts>,
    /// Shims that have taken the VM over in this run.
    pub adoptions: u64,
}

/// Returns the counts of an instance's console.
#[must_use]
pub fn console(instance: &Instance, seen: &Observation) -> Console {
    Console {
        captured: written(&instance.directory.join(names::APP_LOG)),
        events: seen.console,
        adoptions: seen.run.as_ref().map_or(0, |run| run.adoptions.len() as u64),
    }
}
