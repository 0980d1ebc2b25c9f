//! Health of a guest's program, as its checks have shown it.

use serde::{Deserialize, Serialize};

/// How much of what a health check prints is kept, in bytes: docker's.
pub const MAX_HEALTH_OUTPUT: usize = 4096;

/// Result of the health checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Summary.
    pub status: HealthStatus,
    /// Number of consecutive failures.
    pub failures: u32,
    /// When the last one ended, in milliseconds since 1970, by the guest's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at_ms: Option<u64>,
    /// Its exit code; 124 when its time was up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Output of the check, cut.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

impl Health {
    /// As far as it is kept: a guest may say more than docker keeps of a check.
    #[must_use]
    pub fn bounded(mut self) -> Health {
        self.output.truncate(self.output.floor_char_boundary(MAX_HEALTH_OUTPUT));
        self
    }
}

/// docker's three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// None has succeeded, and it has not had time enough.
    #[default]
    Starting,
    /// The last one has succeeded.
    Healthy,
    /// So many have failed as are too many.
    Unhealthy,
}
