//! Where everything lies below the data directory.

use std::path::{Path, PathBuf};

use hypeman_files::AtPath;

use crate::error::{Error, Result};

/// The data directory: `given`, else `HYPEMAN_DATA_DIR`, else `/var/lib/hypeman` for root and
/// `$XDG_DATA_HOME/hypeman` (`~/.local/share/hypeman`) for everyone else. Always absolute.
///
/// # Errors
/// When neither `XDG_DATA_HOME` nor `HOME` is set for a user who needs one, or the current directory is gone.
pub fn data_dir(given: Option<PathBuf>) -> Result<PathBuf> {
    let from_env = || std::env::var_os("HYPEMAN_DATA_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = match given.filter(|path| !path.as_os_str().is_empty()).or_else(from_env) {
        Some(path) => path,
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/hypeman"),
        None => user_data_home()?.join("hypeman"),
    };
    Ok(std::path::absolute(&path).at(&path)?)
}

fn user_data_home() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share"))).ok_or_else(
        || Error::Invalid {
            what: "data directory",
            value: String::new(),
            reason: "HOME is not set; give --data-dir or set HYPEMAN_DATA_DIR".to_owned(),
        },
    )
}

/// Names inside the directory of an instance. The VMM and the shim use them relative to it.
pub mod names {
    /// What the user asked for.
    pub const RECORD: &str = "instance.json";
    /// What it came to at the last start.
    pub const LAUNCH: &str = "launch.json";
    /// Pids, times and end of the last run.
    pub const RUN: &str = "run.json";
    /// Held (flock) while the instance is changed.
    pub const LOCK: &str = "lock";
    /// The shim's pid; held (flock) by the shim as long as it lives.
    pub const SHIM_PID: &str = "shim.pid";
    /// Where the shim answers.
    pub const SHIM_SOCKET: &str = "shim.sock";
    /// The control port of init, served by the VMM.
    pub const CONTROL_SOCKET: &str = "control.sock";
    /// FIFO of the VMM's own standard output and error.
    pub const VMM_OUTPUT: &str = "vmm.out";
    /// A kernel the user gave, copied.
    pub const KERNEL: &str = "kernel";
    /// An initramfs the user gave, copied.
    pub const INITRD: &str = "initrd";
    /// The writable overlay.
    pub const OVERLAY: &str = "disks/overlay";
    /// The configuration for init.
    pub const CONFIG: &str = "disks/config";
    /// Init's reports.
    pub const STATUS: &str = "disks/status";
    /// The directory of the logs.
    pub const LOGS: &str = "logs";
    /// The guest's console.
    pub const APP_LOG: &str = "logs/app.log";
    /// The VMM's own output.
    pub const VMM_LOG: &str = "logs/vmm.log";
    /// What we did, and why.
    pub const HYPEMAN_LOG: &str = "logs/hypeman.log";
}

/// The directory of all instances.
#[must_use]
pub fn instances(data_dir: &Path) -> PathBuf {
    data_dir.join("instances")
}
