//! The kinds of errors, the same from a VMM's driver to the edge of an API.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

/// Kind of an error: what a program may do about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// The argument is ambiguous.
    Ambiguous,
    /// The name is taken.
    Taken,
    /// A port of the host is taken, or may not be taken.
    PortTaken,
    /// It is used by something else.
    InUse,
    /// A value cannot be used.
    Invalid,
    /// The instance is in a state that forbids it.
    WrongState,
    /// This hypervisor, release or guest cannot do that.
    Unsupported,
    /// A program that is needed is not installed.
    NotInstalled,
    /// KVM is missing, or refuses to run the VM.
    NoKvm,
    /// The VMM cannot be confined as strictly as was asked for.
    NotConfined,
    /// The disk is full, or a quota is used up.
    DiskFull,
    /// No address is left on a network.
    NoAddress,
    /// This user may not do that.
    Denied,
    /// A file or record is damaged.
    Damaged,
    /// A record is of a newer release.
    Newer,
    /// A snapshot does not fit this host's programs or CPU.
    Unfit,
    /// The shim or the VMM does not answer.
    Silent,
    /// The VMM failed, or refused.
    Vmm,
    /// The guest could not do it.
    Guest,
    /// A registry or another host does not give what it was asked for.
    Remote,
    /// A registry limits how often it is asked.
    RateLimited,
    /// A connection broke.
    Broken,
    /// It was cancelled.
    Cancelled,
    /// Anything else: a fault of this host, or of ours.
    #[default]
    #[serde(other)]
    Internal,
}

impl Kind {
    /// The kind of an error of the system.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Kind {
        match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::PermissionDenied => Kind::Denied,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::DiskFull,
            ErrorKind::AddrInUse => Kind::PortTaken,
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Kind::Broken,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Kind::Silent,
            ErrorKind::InvalidData => Kind::Damaged,
            ErrorKind::InvalidInput => Kind::Invalid,
            _ => Kind::Internal,
        }
    }

    /// The kind of an error of files.
    #[must_use]
    pub fn of_files(error: &hypeman_files::Error) -> Kind {
        match error {
            hypeman_files::Error::Io { source, .. } => Kind::of_io(source),
            hypeman_files::Error::Damaged { .. } => Kind::Damaged,
            hypeman_files::Error::TooLarge { .. } => Kind::Invalid,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All kinds.
    const ALL: [Kind; 25] = [
        Kind::NotFound,
        Kind::Ambiguous,
        Kind::Taken,
        Kind::PortTaken,
        Kind::InUse,
        Kind::Invalid,
        Kind::WrongState,
        Kind::Unsupported,
        Kind::NotInstalled,
        Kind::NoKvm,
        Kind::NotConfined,
        Kind::DiskFull,
        Kind::NoAddress,
        Kind::Denied,
        Kind::Damaged,
        Kind::Newer,
        Kind::Unfit,
        Kind::Silent,
        Kind::Vmm,
        Kind::Guest,
        Kind::Remote,
        Kind::RateLimited,
        Kind::Broken,
        Kind::Cancelled,
        Kind::Internal,
    ];

    #[test]
    fn each_kind_has_one_code_of_its_own_that_is_read_again() {
        let codes: BTreeSet<String> = ALL.iter().map(ToString::to_string).collect();
        assert_eq!(codes.len(), ALL.len(), "{codes:?}");
        for kind in ALL {
            let code = serde_json::to_string(&kind).unwrap();
            assert_eq!(code, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<Kind>(&code).unwrap(), kind);
        }
        assert_eq!(serde_json::from_str::<Kind>("\"of-a-newer-release\"").unwrap(), Kind::Internal);
    }

    #[test]
    fn what_the_system_says_has_a_kind() {
        for (errno, kind) in [
            (rustix::io::Errno::NOSPC, Kind::DiskFull),
            (rustix::io::Errno::DQUOT, Kind::DiskFull),
            (rustix::io::Errno::ADDRINUSE, Kind::PortTaken),
            (rustix::io::Errno::ACCESS, Kind::Denied),
            (rustix::io::Errno::NOENT, Kind::NotFound),
        ] {
            assert_eq!(Kind::of_io(&errno.into()), kind);
        }
    }
}
