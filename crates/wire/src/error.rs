//! Errors, as the API tells them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Error {
    /// Code that a program can test, as `not_found`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
}
