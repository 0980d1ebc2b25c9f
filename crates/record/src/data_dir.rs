//! The data directory, and where in it everything lies.

use std::path::{Path, PathBuf};

/// Directories below a data directory that are their owner's alone.
const PRIVATE: [&str; 5] = ["images", "instances", "kernels", "pulls", "snapshots"];

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The data directory as an instance's directory, in which its shim works, sees it.
    pub const SEEN_FROM_INSTANCE: &str = "../..";

    /// Returns the data directory as a shim sees it, which works in its instance's directory.
    #[must_use]
    pub fn seen_by_shim() -> DataDir {
        DataDir::new(Path::new(DataDir::SEEN_FROM_INSTANCE))
    }

    /// Returns the data directory at a path.
    #[must_use]
    pub fn new(path: &Path) -> DataDir {
        DataDir(path.to_owned())
    }

    /// The data directory of the instance in `directory`; `None` for a path that is not so deep.
    #[must_use]
    pub fn of_instance(directory: &Path) -> Option<DataDir> {
        directory.parent().and_then(Path::parent).map(DataDir::new)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of all images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// The directory of all instances, each in one of its id.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    /// The directory of all kernels.
    #[must_use]
    pub fn kernels(&self) -> PathBuf {
        self.0.join("kernels")
    }

    /// The directory of all networks, each in one of its name.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.0.join("networks")
    }

    /// The directory of the pulls that servers were asked for.
    #[must_use]
    pub fn pulls(&self) -> PathBuf {
        self.0.join("pulls")
    }

    /// The directory of all named snapshots.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    /// The directories that are their owner's alone.
    pub fn private(&self) -> impl Iterator<Item = PathBuf> + '_ {
        PRIVATE.iter().map(|name| self.0.join(name))
    }

    /// A path below it as seen from an instance's directory.
    #[must_use]
    pub fn seen_from_instance(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.0);
        below.map_or_else(|_| path.to_owned(), |below| Path::new(DataDir::SEEN_FROM_INSTANCE).join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_finds_its_data_directory_and_what_lies_in_it() {
        let data_dir = DataDir::new(Path::new("/data"));
        let instance = data_dir.instances().join("0123");
        assert_eq!(DataDir::of_instance(&instance), Some(data_dir.clone()));
        assert_eq!(DataDir::of_instance(Path::new("/")), None);
        let kernel = data_dir.seen_from_instance(&data_dir.kernels().join("6.1/vmlinuz"));
        assert_eq!(kernel, Path::new("../../kernels/6.1/vmlinuz"));
        assert_eq!(data_dir.seen_from_instance(Path::new("/boot/vmlinuz")), Path::new("/boot/vmlinuz"));
    }
}
