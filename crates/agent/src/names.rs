//! Names that may have any bytes, in messages that are text.
//!
//! Names of files and arguments of commands are bytes on Linux, and a message is JSON. A byte that
//! is no part of UTF-8 is told by a character of its own, as Python has it (PEP 383): the
//! private-use character U+10FF00 and the byte.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The first of the characters that stand for bytes.
const FIRST: u32 = 0x10_ff00;

/// A name as text.
#[must_use]
pub fn to_text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(FIRST + u32::from(*byte))));
    }
    text
}

/// A name from its text.
#[must_use]
pub fn from_text(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character).checked_sub(FIRST).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_text_stays_as_it_is() {
        assert_eq!(to_text(OsStr::new("/etc/résumé")), "/etc/résumé");
        assert_eq!(from_text("/etc/résumé"), "/etc/résumé");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            let name = OsStr::from_bytes(&bytes);
            let is_ours = String::from_utf8_lossy(&bytes).chars().any(|c| u32::from(c) >= FIRST);
            prop_assume!(!is_ours);
            prop_assert_eq!(from_text(&to_text(name)), name);
        }
    }
}
