//! Standing still and going on, in memory.

use hypeman_record::protocol::Request;

use crate::error::Result;
use crate::instance::Instance;
use crate::stop::ask_active;

/// Stops the vCPUs of a VM that runs; a paused one is left alone.
///
/// # Errors
/// When it does not run, or its shim or VMM does not answer.
pub(crate) fn pause(instance: &Instance) -> Result<()> {
    ask_active(instance, &Request::Pause)
}

/// Lets them go on; of one whose vCPUs run nothing is asked.
///
/// # Errors
/// As [`pause`].
pub(crate) fn resume(instance: &Instance) -> Result<()> {
    ask_active(instance, &Request::Resume)
}
