//! All files that a console's log has come to, in the order in which it was printed.

use std::path::{Path, PathBuf};

use testguest::check::Sequence;

/// Begins the name of a file that was renamed.
pub(crate) const ASIDE: &str = "aside-";

/// A file, and whether the log was truncated after it was copied.
struct File {
    bytes: Vec<u8>,
    is_copy: bool,
    /// The first whole line in it.
    first: u64,
}

/// The log in pieces: what was not cut is one.
pub(crate) fn gather(log: &Path, copies: &Path, sequence: &Sequence) -> Result<Vec<Vec<u8>>, String> {
    let mut files = Vec::new();
    let logs = log.parent().unwrap_or(Path::new("."));
    for (directory, is_copy) in [(logs, false), (copies, true)] {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with("app.log") && !name.starts_with(ASIDE) {
                continue;
            }
            let bytes = std::fs::read(&path).expect("read a log");
            if bytes.contains(&0) {
                return Err(format!("{name} has a hole"));
            }
            match sequence.first_whole_line(&bytes) {
                Some((_, first)) => files.push(File { bytes, is_copy, first }),
                None if bytes.is_empty() => {}
                // The last output has no whole line, if the log was cut just before.
                None if name == "app.log" => files.push(File { bytes, is_copy, first: u64::MAX }),
                None => return Err(format!("{name} has no whole line")),
            }
        }
    }
    files.sort_by_key(|file| file.first);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut was_cut = true;
    for file in files {
        match pieces.last_mut() {
            Some(piece) if !was_cut => piece.extend(file.bytes),
            _ => pieces.push(file.bytes),
        }
        was_cut = file.is_copy;
    }
    Ok(pieces)
}

/// Keeps them for whoever looks for what is wrong.
pub(crate) fn keep(pieces: &[Vec<u8>], name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("hypeman-torture-{}-{name}", std::process::id()));
    let _ = std::fs::create_dir_all(&directory);
    for (number, piece) in pieces.iter().enumerate() {
        let _ = std::fs::write(directory.join(format!("{number:04}")), piece);
    }
    directory
}
