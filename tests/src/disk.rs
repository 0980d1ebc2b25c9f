//! Disks that are soon full, or that stall.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs::find;

/// A tmpfs of a given size that is unmounted when its test is over. Needs root.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    /// Where it is mounted, if that was made for it.
    directory: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// Mounts one of `size`, as in `256k`.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn new(size: &str) -> SmallDisk {
        let directory = tempfile::tempdir().expect("a directory");
        let mut disk = SmallDisk::at(directory.path(), size);
        disk.directory = Some(directory);
        disk
    }

    /// Mounts one at `path`, which is made when it is missing.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn at(path: &Path, size: &str) -> SmallDisk {
        std::fs::create_dir_all(path).expect("a directory");
        let disk = SmallDisk { path: path.to_owned(), directory: None };
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
        &self.path
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
        unmount(self.path());
    }
}

fn unmount(path: &Path) {
    let mut command = Command::new(find("umount").expect("umount"));
    let _ = command.arg("--lazy").arg(path).status();
}

/// An ext4 in a file whose writes can be held up. Needs root and a loop device.
#[derive(Debug)]
pub struct FreezableDisk(tempfile::TempDir);

impl FreezableDisk {
    /// Mounts one of 256 MiB.
    ///
    /// # Panics
    /// When it cannot be made or mounted.
    #[must_use]
    pub fn new() -> FreezableDisk {
        let disk = FreezableDisk(tempfile::tempdir().expect("a directory"));
        let image = disk.0.path().join("image");
        std::fs::File::create(&image).expect("a file").set_len(256 << 20).expect("its size");
        run(Command::new(find("mke2fs").expect("mke2fs")).args(["-q", "-t", "ext4"]).arg(&image));
        std::fs::create_dir(disk.path()).expect("a directory");
        run(Command::new(find("mount").expect("mount")).args(["-o", "loop"]).arg(&image).arg(disk.path()));
        disk
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        self.0.path().join("mounted")
    }

    /// Lets no write to it come back (fsfreeze(8)) until `wait` does.
    ///
    /// # Panics
    /// When it cannot be frozen.
    pub fn freeze_while(&self, wait: impl FnOnce()) {
        let fsfreeze = find("fsfreeze").expect("fsfreeze");
        run(Command::new(&fsfreeze).arg("--freeze").arg(self.path()));
        wait();
        run(Command::new(&fsfreeze).arg("--unfreeze").arg(self.path()));
    }
}

impl Default for FreezableDisk {
    fn default() -> FreezableDisk {
        FreezableDisk::new()
    }
}

impl Drop for FreezableDisk {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
