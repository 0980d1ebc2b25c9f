//! FIFOs in a VM's directory.

use std::path::Path;

use hypeman_files::AtPath;
use rustix::fs::{CWD, Mode};

use crate::error::Result;

/// Makes a FIFO, or takes the one that is there. What an earlier run left in it went with that
/// run's VMM.
///
/// # Errors
/// When it cannot be made.
pub fn make(path: &Path) -> Result<()> {
    match rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Ok(Err(error).at(path)?),
    }
}
