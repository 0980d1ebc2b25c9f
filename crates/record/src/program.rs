//! A hypervisor's program.

use std::path::PathBuf;

/// Where a hypervisor's program is and what it says of its version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Program {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Version as the program prints it, for example `7.2.22`.
    pub version: String,
}
