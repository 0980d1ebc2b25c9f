//! Where a file of the log begins in all that was ever written to it: a number that the writer
//! leaves as an extended attribute of the file, by which a reader that rotation has overtaken
//! learns how much it has missed.

use std::fs::File;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

const NAME: &str = "user.hypeman.start";

/// Leaves the number of bytes before the file's first one. A file system without such attributes
/// does without.
pub(crate) fn leave(file: &File, start: u64) {
    let _ = fsetxattr(file, NAME, start.to_string().as_bytes(), XattrFlags::empty());
}

/// The number that was left, if one was.
pub(crate) fn find(file: &File) -> Option<u64> {
    let mut digits = [0; 20]; // those of the largest number
    let length = fgetxattr(file, NAME, &mut digits[..]).ok()?;
    std::str::from_utf8(digits.get(..length)?).ok()?.parse().ok()
}
