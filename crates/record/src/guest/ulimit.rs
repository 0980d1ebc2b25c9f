//! Resource limits of the program, by docker's names.

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

/// Open files that a program may have when nobody says otherwise, as with docker; also the most
/// that Linux allows without more ado (`fs.nr_open`).
const OPEN_FILES: u64 = 1_048_576;

/// The names and what they limit (getrlimit(2)).
const NAMES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Error in a limit as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has no value.
    #[error("must be NAME=SOFT[:HARD], for example nofile=1024:4096")]
    NoValue,
    /// There is no such limit.
    #[error("unknown limit {name:?}: must be one of {}", NAMES.map(|(name, _)| name).join(", "))]
    Unknown {
        /// The given name.
        name: String,
    },
    /// A value is no number.
    #[error("{0:?} is not a number; -1 means no limit")]
    NotANumber(String),
    /// The soft limit is above the hard one.
    #[error("the soft limit exceeds the hard limit")]
    SoftAboveHard,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Name of the limit, for example `nofile`.
    pub name: String,
    /// Soft limit; `None` is no limit.
    pub soft: Option<u64>,
    /// Hard limit, to which the program may raise the soft one; `None` is no limit.
    pub hard: Option<u64>,
}

impl Ulimit {
    /// Parses `NAME=SOFT[:HARD]`, where -1 is no limit.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Ulimit, Error> {
        let (name, values) = text.split_once('=').ok_or(Error::NoValue)?;
        if find(name).is_none() {
            return Err(Error::Unknown { name: name.to_owned() });
        }
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(None),
            _ => text.parse().map(Some).map_err(|_| Error::NotANumber(text.to_owned())),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(Error::SoftAboveHard);
        }
        Ok(Ulimit { name: name.to_owned(), soft, hard })
    }

    /// The limit of open files that holds when none is given.
    #[must_use]
    pub fn open_files() -> Ulimit {
        Ulimit { name: "nofile".to_owned(), soft: Some(OPEN_FILES), hard: Some(OPEN_FILES) }
    }

    /// Resource and value to set; `None` for an unknown name.
    #[must_use]
    pub fn limit(&self) -> Option<(Resource, Rlimit)> {
        Some((find(&self.name)?, Rlimit { current: self.soft, maximum: self.hard }))
    }
}

fn find(name: &str) -> Option<Resource> {
    NAMES.iter().find(|(known, _)| *known == name).map(|&(_, resource)| resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_docker_s() {
        let limit = |soft, hard| Ok(Ulimit { name: "nofile".to_owned(), soft, hard });
        assert_eq!(Ulimit::parse("nofile=1024:4096"), limit(Some(1024), Some(4096)));
        assert_eq!(Ulimit::parse("nofile=7"), limit(Some(7), Some(7)));
        assert_eq!(Ulimit::parse("nofile=7:-1"), limit(Some(7), None));
        for bad in ["nofile", "nofile=", "nofile=x", "nofile=2:1", "nofile=-1:5", "fish=1", "=1"] {
            assert!(Ulimit::parse(bad).is_err(), "{bad}");
        }
    }
}
