//! Whose a bridge is, as it stands on the interface (its alias, ip-link(8)).

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hypeman_files::AtPath;

use crate::error::Result;

/// Maximum length of a data directory's path that is written there, in characters (`IFALIASZ` of
/// linux/if.h is 256).
const LONGEST: usize = 150;

/// The network of a data directory. Known by the device and number of its directory, which no copy
/// has and no other name changes.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    identity: String,
    data_dir: PathBuf,
}

impl Owner {
    /// The owner of the network in `directory`, below `data_dir`.
    pub(crate) fn of(directory: &Path, data_dir: &Path) -> Result<Owner> {
        let found = directory.metadata().at(directory)?;
        let identity = format!("hypeman:{:x}:{:x}", found.dev(), found.ino());
        Ok(Owner { identity, data_dir: std::fs::canonicalize(data_dir).at(data_dir)? })
    }

    /// Whether an alias tells of another network of ours.
    pub(crate) fn is_another(&self, alias: &str) -> bool {
        alias.starts_with("hypeman:") && alias.split(' ').next() != Some(&self.identity)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.data_dir.to_string_lossy();
        let ascii = path.chars().filter(|c| c.is_ascii_graphic()).take(LONGEST).collect::<String>();
        write!(formatter, "{} {ascii}", self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_s_is_told_from_ours_and_from_nobody_s() {
        let scratch = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| {
            let directory = scratch.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            Owner::of(&directory, scratch.path()).unwrap()
        });
        assert!(!one.is_another(&one.to_string()) && one.is_another(&two.to_string()));
        assert!(!one.is_another("uplink of the office"), "what a person has written is no owner");
        assert!(one.to_string().len() < 256);
    }
}
