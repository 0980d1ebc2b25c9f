//! Disks that are soon full.

use std::path::Path;
use std::process::Command;

use crate::needs::find;

/// A tmpfs of a given size that is unmounted when its test is over. Needs root.
#[derive(Debug)]
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one of `size`, as in `256k`.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn new(size: &str) -> SmallDisk {
        let disk = SmallDisk(tempfile::tempdir().expect("a directory"));
        disk.mount(&format!("size={size}"));
        disk
    }

    /// Makes it larger.
    ///
    /// # Panics
    /// When it cannot be mounted again.
    pub fn resize(&self, size: &str) {
        self.mount(&format!("remount,size={size}"));
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Whether nothing more fits.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(self.path()).expect("statvfs").f_bavail == 0
    }

    fn mount(&self, options: &str) {
        let mut command = Command::new(find("mount").expect("mount"));
        let status = command.args(["-t", "tmpfs", "-o", options, "none"]).arg(self.path()).status();
        assert!(status.expect("run mount").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new(find("umount").expect("umount"));
        let _ = command.arg("--lazy").arg(self.path()).status();
    }
}
