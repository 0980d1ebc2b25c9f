//! References of images, completed as docker does: `busybox` is `docker.io/library/busybox:latest`
//! (<https://pkg.go.dev/github.com/distribution/reference>).

use container_image_dist_ref::ImgRef;
use container_image_dist_ref::digest::Standard;

use crate::error::{Error, Result};

/// Tag of a reference without one and without a digest.
pub(crate) const DEFAULT_TAG: &str = "latest";

/// Registry of a reference without one, and its name on the network.
const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "index.docker.io";

/// A reference of an image, with all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Reads a reference, and completes it.
    pub(crate) fn parse(text: &str) -> Result<Reference> {
        let invalid = |reason: String| Error::Reference { reference: text.to_owned(), reason };
        let full = with_registry(text);
        let parsed = ImgRef::new(&full).map_err(|error| invalid(format!("{:?}", error.kind())))?;
        let Some(registry) = parsed.domain() else { return Err(invalid("it has no registry".to_owned())) };
        let digest = parsed.digest();
        if digest.as_ref().is_some_and(|digest| !digest.compliance().compliant_with(Standard::Oci)) {
            return Err(invalid("its digest is not one of OCI's".to_owned()));
        }
        let digest = digest.map(|digest| digest.to_str().to_owned());
        let tag = parsed.tag().or(digest.is_none().then_some(DEFAULT_TAG)).map(str::to_owned);
        let (registry, repository) = (registry.to_str().to_owned(), parsed.path().to_str().to_owned());
        Ok(Reference { registry, repository, tag, digest })
    }

    /// The host that is asked for the image.
    pub(crate) fn host(&self) -> &str {
        if self.registry == DOCKER { DOCKER_HOST } else { &self.registry }
    }

    /// Name of the repository on that host.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only beside a digest.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if it names one.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// All of it.
    pub(crate) fn whole(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}/{}{tag}{digest}", self.registry, self.repository)
    }
}

/// The first part is a registry only if it looks like a host.
fn with_registry(text: &str) -> String {
    let is_host = |part: &str| {
        part.contains(['.', ':'])
            || part == "localhost"
            || part.chars().any(|letter| letter.is_ascii_uppercase())
    };
    match text.split_once('/') {
        Some((registry, rest)) if is_host(registry) => match (registry, rest.contains('/')) {
            (DOCKER | DOCKER_HOST, false) => format!("{DOCKER}/library/{rest}"),
            (DOCKER_HOST, true) => format!("{DOCKER}/{rest}"),
            _ => text.to_owned(),
        },
        Some(_) => format!("{DOCKER}/{text}"),
        None => format!("{DOCKER}/library/{text}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, whole, host) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned(), DOCKER_HOST),
            ("test/app:1", "docker.io/test/app:1".to_owned(), DOCKER_HOST),
            ("docker.io/app", "docker.io/library/app:latest".to_owned(), DOCKER_HOST),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest".to_owned(), "127.0.0.1:5000"),
            ("localhost/a/b:x", "localhost/a/b:x".to_owned(), "localhost"),
            (&format!("ghcr.io/a@{digest}"), format!("ghcr.io/a@{digest}"), "ghcr.io"),
            (&format!("a:1@{digest}"), format!("docker.io/library/a:1@{digest}"), DOCKER_HOST),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.whole(), reference.host()), (whole.clone(), host), "{text}");
            assert_eq!(Reference::parse(&whole).unwrap(), reference, "{text}");
        }
        for bad in ["", "UPPER", "a/UPPER", "../x", "a b", "a:", "a@sha256:short", "a/", "/a", "a::b", "é"] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|[a-z0-9./:@_-]{0,300}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.whole()).unwrap(), reference);
            }
        }
    }
}
