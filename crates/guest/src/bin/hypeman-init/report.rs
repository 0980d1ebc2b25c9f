//! Reports to the host.

use std::fs::File;
use std::os::unix::fs::FileExt;

use hypeman_record::guest::status::{DISK_SIZE, Status};

/// Why the command did not come to run.
#[derive(Debug)]
pub(crate) struct Failure {
    /// 127, 126 or 125, as docker has them.
    pub(crate) code: i32,
    /// One line for the user.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn into_status(self) -> Status {
        Status::Failed { code: self.code, message: self.message }
    }
}

/// Any error before the command runs is a failure, with what was being done before the cause.
pub(crate) trait Context<T> {
    fn context(self, doing: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Context<T> for Result<T, E> {
    fn context(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|cause| Failure { code: 125, message: format!("the guest could not {doing}: {cause}") })
    }
}

/// Writes a report, and brings it to the host's side of the disk before returning.
pub(crate) fn write(disk: &File, status: &Status) {
    let mut block = vec![0; DISK_SIZE as usize]; // a constant of some KiB
    let mut text = serde_json::to_vec(status).unwrap_or_default();
    if text.len() >= block.len() {
        text.clear(); // an endless message: no report is better than a cut one
    }
    block[..text.len()].copy_from_slice(&text);
    let written = disk.write_all_at(&block, 0).and_then(|()| disk.sync_all());
    if let Err(error) = written {
        eprintln!("hypeman-init: cannot report to the host: {error}");
    }
}
