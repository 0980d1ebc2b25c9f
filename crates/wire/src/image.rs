//! Images, as the API describes them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Tags;
use crate::null::{null_is_default, object};

/// How far an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageStatus {
    /// It waits for another pull.
    Pending,
    /// Its layers are fetched.
    Pulling,
    /// Its disk is made.
    Converting,
    /// It can be used.
    Ready,
    /// It could not be pulled; `error` says why.
    Failed,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Whole name, as `docker.io/library/nginx:latest`.
    pub name: String,
    /// Digest of its manifest; empty as long as the registry has not told it.
    pub digest: String,
    /// Platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub platform: Option<String>,
    /// How far it is.
    pub status: ImageStatus,
    /// Place in the queue of pulls, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// Reason why it could not be pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Size of its disk in bytes, when it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// When it came here, or was asked for.
    pub created_at: Timestamp,
}

/// Request for an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct CreateImageRequest {
    /// Name, as `nginx:latest`.
    pub name: String,
    /// Platform; only `linux/amd64` is supported.
    #[schema(pattern = "^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$")]
    pub platform: Option<String>,
    /// Credentials for this pull alone.
    #[serde(default, deserialize_with = "object")]
    pub credentials: Option<RegistryCredentials>,
    /// Tags.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(nullable)]
    pub tags: Tags,
}

/// Credentials for a registry, lent for one request: never stored, never logged.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = PushCredentials)]
pub struct RegistryCredentials {
    /// User name.
    pub username: Option<String>,
    /// Password.
    #[schema(format = "password")]
    pub password: Option<String>,
    /// Token, in place of both.
    #[schema(format = "password")]
    pub registry_token: Option<String>,
}

/// Shows which are set, and no secret.
impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_set = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        formatter
            .debug_struct("RegistryCredentials")
            .field("username", &self.username)
            .field("password", &is_set(&self.password))
            .field("registry_token", &is_set(&self.registry_token))
            .finish()
    }
}

/// Request for another name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TagImageRequest {
    /// The other name, as `myapp:v2`.
    pub target: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let credentials: RegistryCredentials =
            serde_json::from_str(r#"{"username":"ann","password":"s3cret","registry_token":"t0ken"}"#)
                .unwrap();
        let shown = format!("{credentials:?}");
        assert!(shown.contains("ann") && !shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
    }
}
