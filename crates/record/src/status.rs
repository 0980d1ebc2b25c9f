//! The status disk, read on the host.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::guest::status::{DISK_SIZE, Status};

/// Reads init's last report; `None` if there is none, or the disk holds no report. The guest may
/// have written anything there, so nothing on it is an error of ours.
#[must_use]
pub fn read(path: &Path) -> Option<Status> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(DISK_SIZE).read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

/// The report in what stands on the disk.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Status> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    serde_json::from_slice(&bytes[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_on_the_disk_is_no_report() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status");
        assert_eq!(read(&path), None);
        for garbage in [&b"\xff\xfe"[..], &[0; 4096], &[b'['; 100_000], b"{\"state\":\"flying\"}"] {
            std::fs::write(&path, garbage).unwrap();
            assert_eq!(read(&path), None);
        }
        std::fs::write(&path, b"{\"state\":\"exited\",\"code\":3}\0\0garbage").unwrap();
        assert_eq!(read(&path), Some(Status::Exited { code: 3 }));
    }
}
