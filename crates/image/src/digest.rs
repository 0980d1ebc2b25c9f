//! SHA-256 digests, as `sha256:<64 hexadecimal digits>`.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result, content};

/// Returns the digest of some bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> String {
    text(Sha256::digest(bytes).as_slice())
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The hexadecimal digits of a digest, which are safe in a path.
pub(crate) fn hex(digest: &str) -> Result<&str> {
    let digits = digest.strip_prefix("sha256:").filter(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    });
    digits.ok_or_else(|| {
        content(format!("the digest {digest:?}"), "it is not sha256: and 64 hexadecimal digits")
    })
}

/// Fails when bytes are not those that were promised.
pub(crate) fn verify(what: &str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Digest { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() })
}

/// Passes bytes through and takes their digest.
pub(crate) struct Hashing<T> {
    inner: T,
    hasher: Sha256,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Hashing<T> {
        Hashing { inner, hasher: Sha256::new() }
    }

    pub(crate) fn finish(self) -> String {
        self.into_parts().1
    }

    pub(crate) fn into_parts(self) -> (T, String) {
        (self.inner, text(self.hasher.finalize().as_slice()))
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
