//! Errors that name the file.

use std::path::{Path, PathBuf};

/// A file that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be made, opened, read, written or removed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A record that cannot be read.
    #[error("{}: the record is damaged ({source}); restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// More than a disk of a fixed size holds.
    #[error("{}: {length} bytes do not fit into {size}; shorten the environment or the arguments", path.display())]
    TooLarge {
        /// The disk.
        path: PathBuf,
        /// Bytes to be written.
        length: u64,
        /// Bytes that it holds.
        size: u64,
    },
}

impl Error {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds the file's name to an error of the system.
pub trait AtPath<T> {
    /// The error with `path`.
    ///
    /// # Errors
    /// When `self` is one.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> AtPath<T> for std::result::Result<T, E> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.to_owned(), source: source.into() })
    }
}

/// An error with its causes, each once: many errors tell their cause in their own words already.
#[must_use]
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let error =
            Err::<(), _>(std::io::Error::other("the disk is on fire")).at(Path::new("/file")).unwrap_err();
        assert_eq!(with_causes(&error), "/file: the disk is on fire");
    }
}
