//! Which releases can be used.

use hypeman_record::program::Program;

use crate::error::{Error, Result};

/// The first release that is supported. Serial sockets came with v36.0; the fixes to them up to
/// v38.0 are needed.
const OLDEST: u32 = 38;

/// The first release that keeps what the guest prints while nobody listens (release notes of
/// v53.0).
const KEEPS_UNREAD: u32 = 53;

/// The first release that does without the MTU of a TAP that it cannot look at (`new_with_tap`,
/// virtio-devices/src/net.rs): a confined one has no network in which the TAP is.
const NETWORK_WITHOUT_MTU: u32 = 52;

/// Whether it keeps what the guest prints while nobody listens.
pub(crate) fn keeps_unread(program: &Program) -> bool {
    number(program).is_some_and(|number| number >= KEEPS_UNREAD)
}

/// The release of a program: 53 for `53.0.0`.
pub(crate) fn number(program: &Program) -> Option<u32> {
    program.version.split('.').next()?.parse().ok()
}

/// Refuses a release that is too old, with the reason. A newer one than we know is given the chance
/// to work.
pub(crate) fn check(program: &Program) -> Result<()> {
    match number(program) {
        Some(number) if number >= OLDEST => Ok(()),
        _ => Err(Error::TooOld {
            path: program.path.clone(),
            version: program.version.clone(),
            oldest: OLDEST,
        }),
    }
}

/// Refuses a release that cannot have a network.
pub(crate) fn check_for_network(program: &Program) -> Result<()> {
    match number(program) {
        Some(number) if number >= NETWORK_WITHOUT_MTU => Ok(()),
        _ => Err(Error::TooOldForNetwork {
            path: program.path.clone(),
            version: program.version.clone(),
            oldest: NETWORK_WITHOUT_MTU,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: &str) -> Result<()> {
        check(&Program { path: "cloud-hypervisor".into(), version: version.into() })
    }

    #[test]
    fn an_old_release_is_refused_with_the_reason() {
        assert!(checked("38.0.0").is_ok());
        assert!(checked("53.0.0").is_ok());
        for old in ["37.1.0", "0.14.1", "unknown"] {
            let error = checked(old).unwrap_err().to_string();
            assert!(error.contains(old) && error.contains("v38.0"), "{error}");
        }
    }
}
