//! Which name means which image: `images/names.json`.

use std::collections::BTreeMap;
use std::path::Path;

use hypeman_files::{read_json, write_json};

use crate::error::{Error, Result};

const FILE: &str = "names.json";

/// The tag of a reference that names none.
const DEFAULT_TAG: &str = "latest";

/// Names and the digests they stand for.
pub(crate) type Names = BTreeMap<String, String>;

/// All names. Whoever means to write them holds the store's lock.
pub(crate) fn read(images: &Path) -> Result<Names> {
    Ok(read_json(&images.join(FILE))?.unwrap_or_default())
}

pub(crate) fn write(images: &Path, names: &Names) -> Result<()> {
    Ok(write_json(&images.join(FILE), names)?)
}

/// A reference in full, as docker understands it: `busybox` is `docker.io/library/busybox:latest`.
pub(crate) fn full(reference: &str) -> Result<String> {
    parse(reference).map(|reference| reference.whole())
}

/// Parses a reference by the grammar of distribution
/// (<https://pkg.go.dev/github.com/distribution/reference>).
pub(crate) fn parse(reference: &str) -> Result<oci_spec::distribution::Reference> {
    let parsed = oci_spec::distribution::Reference::try_from(reference);
    parsed.map_err(|error| Error::Reference { reference: reference.to_owned(), reason: error.to_string() })
}

/// The whole name, when the digest in it, if there is one, is that of the image which shall have it.
pub(crate) fn check_digest(name: &oci_spec::distribution::Reference, digest: &str) -> Result<String> {
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
