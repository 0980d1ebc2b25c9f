//! Disks that are soon full.

#![allow(clippy::unwrap_used)] // in helpers of tests

use std::path::Path;

/// A tmpfs of a given size.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one, if we may.
    pub(crate) fn new(size: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let status =
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(dir.path()).output();
        if !status.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: a small disk cannot be mounted; run as root");
            return None;
        }
        Some(SmallDisk(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes it larger.
    pub(crate) fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        std::process::Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
