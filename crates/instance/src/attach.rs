//! Typing to a guest.

use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::adopt;
use crate::error::Result;
use crate::stop;
use crate::store::Instance;

/// Connects to the guest's keyboard: what is written to the stream is typed, as quickly as the guest takes it. The stream ends with
/// the VM, or with its shim; then another shim, of the program `hypeman`, can be asked.
///
/// # Errors
/// When it does not run, or its shim does not answer, or is of an older release.
pub fn attach(instance: &Instance, hypeman: &Path) -> Result<UnixStream> {
    adopt::adopt(instance, hypeman)?;
    stop::require_active(instance)?;
    stop::client(instance)?.attach()
}
