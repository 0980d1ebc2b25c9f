//! Files that a copy leaves out, and errors by path.

use std::path::Path;

/// An error with the path that it is about.
pub(crate) fn named(path: &Path, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Files left out of a copy, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// The first of them, and why.
    pub first: Option<String>,
}

impl LeftOut {
    pub(crate) fn add(&mut self, path: &Path, why: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{}: {why}", path.display()));
    }

    /// In a sentence; `None` if nothing was.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match self.count {
            1 => format!("left out: {first}"),
            count => format!("left out: {first}, and {} more", count - 1),
        })
    }
}
