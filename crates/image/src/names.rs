//! Which name means which image: `images/names.json`.

use std::collections::BTreeMap;
use std::path::Path;

use hypeman_record::format::{self, Envelope, Versioned};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::reference::{DEFAULT_TAG, Reference};

const FILE: &str = "names.json";

/// The record of all names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Names {
    /// Names and the digests they stand for.
    #[serde(rename = "names", default)]
    pub(crate) digests: BTreeMap<String, String>,
    #[serde(flatten)]
    envelope: Envelope,
}

impl Versioned for Names {
    const FORMAT: u32 = 2;

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

impl Names {
    /// All names. Writers hold the store's lock.
    pub(crate) fn read(images: &Path) -> Result<Names> {
        let none = || Names { digests: BTreeMap::new(), envelope: Envelope::of::<Names>() };
        let mut names = format::read::<Names>(&images.join(FILE))?.unwrap_or_else(none);
        if names.envelope.format < Names::FORMAT {
            // The first format had nothing but names.
            let old = std::mem::replace(&mut names.envelope, Envelope::of::<Names>()).unknown;
            let digest =
                |(name, digest): (String, serde_json::Value)| Some((name, digest.as_str()?.to_owned()));
            names.digests.extend(old.into_iter().filter_map(digest));
        }
        Ok(names)
    }

    /// Writes all names.
    pub(crate) fn write(&self, images: &Path) -> Result<()> {
        Ok(format::write(&images.join(FILE), self)?)
    }
}

/// Completes a reference as docker does: `busybox` is `docker.io/library/busybox:latest`.
///
/// # Errors
/// When it is no reference.
pub fn full(reference: &str) -> Result<String> {
    Reference::parse(reference).map(|reference| reference.whole())
}

/// The whole name, when the digest in it, if there is one, is that of the image which shall have
/// it.
pub(crate) fn check_digest(name: &Reference, digest: &str) -> Result<String> {
    match name.digest() {
        Some(named) if named != digest => {
            let reason = format!("its digest is not that of the image, which is {digest}");
            Err(Error::Reference { reference: name.whole(), reason })
        }
        _ => Ok(name.whole()),
    }
}

/// The name as people write it: without what docker adds by itself.
pub(crate) fn familiar(full: &str) -> String {
    let name = full.strip_prefix("docker.io/").unwrap_or(full);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(&format!(":{DEFAULT_TAG}")).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_first_format_are_read_and_written_in_the_second() {
        let scratch = tempfile::tempdir().unwrap();
        let digest = format!("sha256:{}", "a".repeat(64));
        let old = format!(r#"{{"docker.io/library/busybox:latest": "{digest}"}}"#);
        std::fs::write(scratch.path().join(FILE), old).unwrap();
        let names = Names::read(scratch.path()).unwrap();
        assert_eq!(names.digests, [("docker.io/library/busybox:latest".to_owned(), digest.clone())].into());
        names.write(scratch.path()).unwrap();
        let text = std::fs::read_to_string(scratch.path().join(FILE)).unwrap();
        assert!(text.contains(r#""format": 2"#) && text.contains(r#""names""#), "{text}");
        assert_eq!(Names::read(scratch.path()).unwrap().digests, names.digests);
        let newer = text.replace(r#""format": 2"#, r#""format": 3"#);
        std::fs::write(scratch.path().join(FILE), newer).unwrap();
        assert!(Names::read(scratch.path()).unwrap_err().to_string().contains("format 3"));
    }

    #[test]
    fn names_are_completed_and_shown_as_docker_does() {
        for (short, long) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("test/app:1", "docker.io/test/app:1"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ] {
            assert_eq!(full(short).unwrap(), long);
            assert_eq!(familiar(long), short);
        }
        for bad in ["", "UPPER", "../x", "a b"] {
            assert!(full(bad).is_err(), "{bad}");
        }
    }
}
