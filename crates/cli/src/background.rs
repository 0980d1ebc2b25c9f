//! Work beside what the command waits for.

use anyhow::{Context as _, Result};

/// A runtime for the commands that wait for several things at once.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}
