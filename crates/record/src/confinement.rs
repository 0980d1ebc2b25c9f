//! How much a VMM is confined, as users ask for it and as records tell it.

use serde::{Deserialize, Serialize};

/// How much of it a VM is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strictness {
    /// What this host can give.
    #[default]
    Auto,
    /// All, or it does not start.
    Strict,
    /// None.
    Off,
}

/// One wall, and whether it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name: `user`, `landlock`, `seccomp`, `namespaces`, `cgroup`, `read-only-files` or `no-new-privileges`.
    pub measure: String,
    /// What it is; absent when it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined_to: Option<String>,
    /// Why it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}
