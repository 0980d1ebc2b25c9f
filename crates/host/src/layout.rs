//! Finds the data directory, and keeps others out of it.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use hypeman_files::AtPath;
use hypeman_record::data_dir::DataDir;

use crate::error::{Error, Field, Result};

/// Names the data directory.
pub(crate) const DATA_DIR: &str = "HYPEMAN_DATA_DIR";

/// A variable of the environment; an empty one is none.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The data directory: `given`, else `HYPEMAN_DATA_DIR`, else `/var/lib/hypeman` for root and
/// `$XDG_DATA_HOME/hypeman` (`~/.local/share/hypeman`) for everyone else. Always absolute.
///
/// # Errors
/// When neither `XDG_DATA_HOME` nor `HOME` is set for a user who needs one, or the current
/// directory is gone.
pub(crate) fn data_dir(given: Option<PathBuf>) -> Result<PathBuf> {
    let from_env = || variable(DATA_DIR).map(PathBuf::from);
    let path = match given.filter(|path| !path.as_os_str().is_empty()).or_else(from_env) {
        Some(path) => path,
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/hypeman"),
        None => user_data_home()?.join("hypeman"),
    };
    Ok(std::path::absolute(&path).at(&path)?)
}

fn user_data_home() -> Result<PathBuf> {
    let path = |name| variable(name).map(PathBuf::from);
    path("XDG_DATA_HOME").or_else(|| path("HOME").map(|home| home.join(".local/share"))).ok_or_else(|| {
        Error::Invalid {
            field: Field::DataDirectory,
            value: String::new(),
            reason: "HOME is not set".to_owned(),
        }
    })
}

/// Takes from others what releases before had left open to them: below the data directory lie
/// guests' secrets. The data directory itself is left as its user has made it.
///
/// # Errors
/// When the mode of a directory of ours cannot be changed.
pub(crate) fn make_private(data_dir: &DataDir) -> Result<()> {
    for store in data_dir.private() {
        let Ok(metadata) = store.symlink_metadata() else { continue };
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if metadata.is_dir() && is_ours && metadata.mode() & 0o077 != 0 {
            std::fs::set_permissions(&store, Permissions::from_mode(0o700)).at(&store)?;
        }
    }
    Ok(())
}
