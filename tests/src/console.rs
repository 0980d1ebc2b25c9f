//! Files of a console on disk.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use testguest::Options;
use testguest::check::Sequence;

use crate::wait::eventually;

/// All files of the log, oldest first.
#[must_use]
pub fn files(app_log: &Path) -> Vec<PathBuf> {
    let rotated = |n: usize| PathBuf::from(format!("{}.{n}", app_log.display()));
    let mut files: Vec<PathBuf> = (1..).map(rotated).take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(app_log.to_owned());
    files
}

/// The whole log, oldest byte first. While it is rotated there is no newest file for an instant.
///
/// # Panics
/// When a file cannot be read, or there is none for long.
#[must_use]
pub fn whole(app_log: &Path) -> Vec<u8> {
    let read = || match files(app_log).iter().map(std::fs::read).collect::<std::io::Result<Vec<_>>>() {
        Ok(parts) => Some(parts.concat()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("read a log: {error}"),
    };
    eventually("a log", read)
}

/// The parts of a test guest's log that its boots have printed: each begins with line 0.
#[must_use]
pub fn boots(log: &[u8]) -> Vec<&[u8]> {
    let begins_line = |at: usize| log[at..].starts_with(b"0000000000 ");
    let mut starts: Vec<usize> = (0..log.len()).filter(|&at| begins_line(at)).collect();
    starts.push(log.len());
    starts.windows(2).map(|pair| &log[pair[0]..pair[1]]).collect()
}

/// A log of the test guest has no hole, and all lines from the first on, each once.
///
/// # Panics
/// When something is missing or doubled.
pub fn assert_whole(app_log: &Path, options: &Options) {
    files(app_log).iter().for_each(|file| assert_no_hole(file));
    let lines = Sequence::new(options).check(&whole(app_log)).unwrap_or_else(|broken| panic!("{broken:?}"));
    assert_eq!(lines.start, 0);
}

/// A file has no hole: it has blocks for all its bytes, and none of them is NUL.
///
/// # Panics
/// When it has one.
pub fn assert_no_hole(file: &Path) {
    let bytes = std::fs::read(file).expect("read a log");
    assert!(!bytes.contains(&0), "{} has NULs", file.display());
    let metadata = std::fs::metadata(file).expect("metadata");
    assert!(metadata.blocks() * 512 >= metadata.len(), "{}: {metadata:?} has a hole", file.display());
}

/// Asserts that each run of [`crate::vm::COUNTING`] has printed its lines in order, each once. A
/// restore goes on with the next one.
///
/// # Panics
/// When one is missing or doubled, or the log has a hole.
pub fn assert_counted(app_log: &Path) {
    files(app_log).iter().for_each(|file| assert_no_hole(file));
    let log = String::from_utf8(whole(app_log)).expect("text");
    let mut last = None;
    for line in log.lines().filter_map(|line| line.strip_prefix("line ")) {
        let number: u64 = line.trim().parse().expect("a number");
        assert!(number == 0 || last == Some(number - 1), "{number} after {last:?} in {}", app_log.display());
        last = Some(number);
    }
}
