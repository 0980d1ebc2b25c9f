//! How much of a write is in the log whose process was killed in it.
//!
//! The file's size was noted before the write, and nobody else writes to it, so its size now tells.
//! If someone has truncated it since, as logrotate's copytruncate does, the copy that was taken
//! before tells.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::buffer::Buffer;
use crate::chain;
use crate::event::Event;
use crate::log::{FileState, Limits, Log};
use crate::writer::Writer;

/// Goes on with the log of a process that was killed, and with what it had read and not written.
/// Tells it if it is not sure that nothing is missing.
///
/// # Errors
/// When the log cannot be opened, or the memory is none of a [`Buffer`].
pub fn resume(path: &Path, limits: Limits, memory: OwnedFd) -> std::io::Result<(Writer, Option<Event>)> {
    let (mut buffer, cut_short) = Buffer::open(memory)?;
    let mut doubt = None;
    if let Some(write) = cut_short {
        let settled = settle(path, write.file, write.length)?;
        buffer.is_in_log(&write, settled.in_log);
        doubt = (!settled.is_certain).then_some(Event::Uncertain(write.length));
    }
    let log = Log::open(path, limits).map_err(std::io::Error::other)?;
    Ok((Writer::new(log, buffer), doubt))
}

/// Fate of a write that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settled {
    /// How many of its bytes are in the log.
    in_log: usize,
    /// Whether that is known. If not, it is assumed that all are.
    is_certain: bool,
}

/// Looks at the files of the log at `path` for the traces of a write.
fn settle(path: &Path, file: FileState, length: usize) -> std::io::Result<Settled> {
    let known = |in_log: u64| Settled {
        in_log: usize::try_from(in_log).unwrap_or(length).min(length),
        is_certain: true,
    };
    let is_same = |other: &&FileState| (other.device, other.inode) == (file.device, file.inode);
    let before = file.size;
    match states(&chain::beside(path)?).iter().find(is_same) {
        Some(file) if file.size >= before => return Ok(known(file.size - before)),
        // Truncated after its size was noted, and then written to.
        Some(file) if file.size > 0 => return Ok(known(file.size)),
        _ => {}
    }
    let could_be_a_copy = |file: &&FileState| {
        !is_same(file) && (before..=before.saturating_add(length as u64)).contains(&file.size)
    };
    // The youngest file comes last.
    Ok(states(&chain::files(path)?)
        .iter()
        .rfind(could_be_a_copy)
        .map_or(Settled { in_log: length, is_certain: false }, |copy| known(copy.size - before)))
}

fn states(files: &[PathBuf]) -> Vec<FileState> {
    let metadata = files.iter().filter_map(|file| file.metadata().ok());
    metadata.map(|metadata| FileState::of(&metadata)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Files by name and size, the first of which was written to when it had `before` bytes.
    fn settled(files: &[(&str, usize)], before: u64) -> Settled {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, size) in files {
            std::fs::write(path(name), vec![b'x'; *size]).unwrap();
        }
        let written = std::fs::metadata(path(files[0].0)).unwrap();
        let file = FileState { device: written.dev(), inode: written.ino(), size: before };
        if files[0].0 == "gone" {
            std::fs::remove_file(path("gone")).unwrap();
        }
        settle(&path("app.log"), file, 10).unwrap()
    }

    #[test]
    fn the_size_tells_how_much_was_written_also_of_a_file_that_was_renamed() {
        type Files = [(&'static str, usize)];
        let table: [(&Files, u64, usize); 9] = [
            (&[("app.log", 100)], 100, 0),
            (&[("app.log", 103)], 100, 3),
            (&[("app.log", 110)], 100, 10),
            (&[("app.log.1", 103), ("app.log", 0)], 100, 3),
            (&[("app.log-20261127", 103), ("app.log", 0)], 100, 3),
            // Truncated after the write, and before it.
            (&[("app.log", 0), ("app.log.1", 104)], 100, 4),
            (&[("app.log", 0), ("app.log.1", 100), ("app.log.2", 104)], 100, 0),
            (&[("app.log", 10)], 100, 10),
            (&[("app.log", 4)], 0, 4),
        ];
        for (files, before, in_log) in table {
            assert_eq!(settled(files, before), Settled { in_log, is_certain: true }, "{files:?}");
        }
    }

    #[test]
    fn when_nothing_tells_it_is_taken_for_written_and_said_so() {
        let unknown = Settled { in_log: 10, is_certain: false };
        assert_eq!(settled(&[("app.log", 0), ("app.log.1", 99)], 100), unknown);
        assert_eq!(settled(&[("gone", 103), ("app.log", 5)], 100), unknown);
    }
}
