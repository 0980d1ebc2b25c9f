//! The disks that the host has given, by their serial numbers.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hypeman_record::guest::config::{self, GuestConfig};
use hypeman_record::guest::disk;

use crate::report::{Context, Failure};

/// Timeout for disks to appear after their driver was loaded.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);

/// Device files by serial number.
pub(crate) struct Disks(BTreeMap<String, PathBuf>);

impl Disks {
    /// Finds the four disks that every VM has. A driver may find its devices after its module has
    /// been loaded, and without udev there is no one who would tell: so this looks again until they
    /// are there.
    pub(crate) fn find() -> Result<Disks, Failure> {
        wait_for(&[disk::ROOT, disk::OVERLAY, disk::CONFIG, disk::STATUS])
    }

    /// The device file of a disk that not every VM has.
    pub(crate) fn wait_for(&self, serial: &str) -> Result<PathBuf, Failure> {
        match self.path(serial) {
            Ok(path) => Ok(path.clone()),
            Err(_) => wait_for(&[serial])?.path(serial).cloned(),
        }
    }

    /// The device file of a disk.
    pub(crate) fn path(&self, serial: &str) -> Result<&PathBuf, Failure> {
        self.0.get(serial).ok_or_else(|| format!("no disk {serial:?}")).context("find its disks")
    }

    pub(crate) fn open_status(&self) -> Result<File, Failure> {
        OpenOptions::new().write(true).open(self.path(disk::STATUS)?).context("open the status disk")
    }

    pub(crate) fn read_config(&self) -> Result<GuestConfig, Failure> {
        let mut bytes = Vec::new();
        let disk = File::open(self.path(disk::CONFIG)?).context("open the configuration")?;
        disk.take(config::DISK_SIZE).read_to_end(&mut bytes).context("read the configuration")?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        serde_json::from_slice(&bytes[..end]).context("understand the configuration")
    }
}

fn wait_for(serials: &[&str]) -> Result<Disks, Failure> {
    let deadline = Instant::now() + DISK_TIMEOUT;
    loop {
        let disks = Disks(scan());
        match serials.iter().find(|serial| disks.path(serial).is_err()) {
            None => return Ok(disks),
            Some(serial) if Instant::now() > deadline => {
                return Err(format!("no disk has the serial number {serial:?}")).context("find its disks");
            }
            Some(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn scan() -> BTreeMap<String, PathBuf> {
    let mut disks = BTreeMap::new();
    for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let device = PathBuf::from("/dev").join(entry.file_name());
        if let Ok(serial) = std::fs::read_to_string(entry.path().join("serial"))
            && device.exists()
        {
            disks.insert(serial.trim().to_owned(), device);
        }
    }
    disks
}
