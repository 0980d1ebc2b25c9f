//! Names and ids.

use std::path::Path;

use hypeman_files::AtPath;

use crate::error::{Error, Field, Result};

/// Maximum length of a name: it becomes the guest's host name, a DNS label (RFC 1123).
const MAX_LENGTH: usize = 63;

const ADJECTIVES: [&str; 16] = [
    "brave", "calm", "clever", "eager", "gentle", "happy", "keen", "kind", "lively", "lucid", "merry",
    "nimble", "proud", "quiet", "swift", "witty",
];
const NOUNS: [&str; 16] = [
    "badger", "crane", "dolphin", "falcon", "ferret", "heron", "ibex", "lynx", "marten", "otter", "panda",
    "raven", "salmon", "stoat", "tapir", "wren",
];

/// Checks a name as docker does: a letter or digit, then letters, digits, `_`, `.` and `-`.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check(name: &str) -> Result<()> {
    let invalid = |reason: &str| {
        Err(Error::Invalid { field: Field::Name, value: name.to_owned(), reason: reason.to_owned() })
    };
    if name.is_empty() {
        return invalid("must not be empty");
    }
    if name.len() > MAX_LENGTH {
        return invalid("must be 63 characters or less");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(allowed) {
        return invalid("must be a letter or digit followed by letters, digits, `_`, `.` and `-`");
    }
    Ok(())
}

/// Whether a word is an id, all of it.
pub(crate) fn is_id(word: &str) -> bool {
    word.len() == 24 && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A new id: 24 hexadecimal digits from the system's random source.
///
/// # Errors
/// When the system has no random bytes to give.
pub(crate) fn new_id() -> Result<String> {
    let bytes: [u8; 12] = random()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A name for an instance whose user gave none; may be taken already.
///
/// # Errors
/// As [`new_id`].
pub(crate) fn random_name() -> Result<String> {
    let [adjective, noun, high, low] = random()?;
    let number = u16::from_be_bytes([high, low]) % 1000;
    let pick = |words: &[&'static str; 16], byte: u8| words[usize::from(byte) % words.len()];
    Ok(format!("{}-{}-{number}", pick(&ADJECTIVES, adjective), pick(&NOUNS, noun)))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()));
    filled.at(Path::new("/dev/urandom"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for name in ["", "../x", ".", "..", "-x", "a/b", "a b", "a\n", "é", &"a".repeat(64)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        for name in ["a", "web-1", "A.b_c", "9"] {
            assert!(check(name).is_ok(), "{name:?}");
        }
        assert!(check(&random_name().unwrap()).is_ok());
    }
}
