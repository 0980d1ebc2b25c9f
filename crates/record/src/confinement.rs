//! How much a VMM is confined, as users ask for it and as records tell it.

use serde::{Deserialize, Serialize};

/// How much of it a VM is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strictness {
    /// The parts that this host supports.
    #[default]
    Auto,
    /// All parts, or the VMM does not start.
    Strict,
    /// None.
    Off,
}

/// One part of the sandbox, and whether the VMM has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name: `user`, `landlock`, `seccomp`, `namespaces`, `cgroup`, `read-only-files` or
    /// `no-new-privileges`.
    pub measure: String,
    /// Content of the part; absent when the host lacks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined_to: Option<String>,
    /// Reason why the host lacks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}
