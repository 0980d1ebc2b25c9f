//! Files on their way between the host and a guest: a tree becomes a tar stream, and a tar stream a tree.
//!
//! Each end runs both halves: who sends may be hostile. With [`Links::Refused`], [`unpack`] writes
//! nothing outside the directory and name that it is given, whatever the names and links in the
//! stream, and whatever lies there already.

mod kernel_files;
mod members;
mod pack;
mod place;
mod unpack;

pub use pack::pack;
pub use place::Links;
pub use unpack::{Trust, unpack};

/// An error with the path that it is about.
fn named(path: &std::path::Path, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What was left out of a copy, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// The first of them, and why.
    pub first: Option<String>,
}

impl LeftOut {
    fn add(&mut self, path: &std::path::Path, why: &str) {
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
