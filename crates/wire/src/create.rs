//! Requests for a new instance, and for changes of one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::human::is_no_time;
use crate::instance::Hypervisor;
use crate::null::{null_is_default, object};
use crate::{Name, Tags};

/// Request for a new instance. It is made and started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreateInstanceRequest {
    /// Name, unique on this host.
    pub name: Name,
    /// Image, as `docker.io/library/nginx:latest`; pulled if it is not here.
    pub image: String,
    /// Platform of the image; only `linux/amd64` is supported.
    #[schema(pattern = "^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$")]
    pub platform: Option<String>,
    /// Memory, as `512MB` or `2GB`.
    #[schema(default = "1GB")]
    pub size: Option<String>,
    /// Memory that can be added while it runs; left out on a hypervisor that cannot add any.
    pub hotplug_size: Option<String>,
    /// Size of the writable disk.
    #[schema(default = "10GB")]
    pub overlay_size: Option<String>,
    /// Maximum rate of each disk, as `100MB/s`.
    pub disk_io_bps: Option<String>,
    /// Number of vCPUs.
    #[schema(default = 2)]
    pub vcpus: Option<i64>,
    /// Variables added to the image's environment.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(nullable)]
    pub env: BTreeMap<String, String>,
    /// Tags.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(nullable)]
    pub tags: Tags,
    /// Network.
    #[serde(default, deserialize_with = "object")]
    #[schema(nullable)]
    pub network: CreateNetwork,
    /// Hypervisor; the server's default when left out.
    pub hypervisor: Option<Hypervisor>,
    /// Replacement of the image's entrypoint and command.
    pub entrypoint: Option<Vec<String>>,
    /// Replacement of the image's command.
    pub cmd: Option<Vec<String>>,
    /// Has no effect: no kernel headers are installed in guests.
    #[serde(default)]
    pub skip_kernel_headers: bool,
    /// Not supported: a guest always has its agent.
    #[serde(default)]
    pub skip_guest_agent: bool,
    /// Not supported yet: secrets that an egress proxy puts into requests.
    #[schema(value_type = Option<Object>)]
    pub credentials: Option<Value>,
    /// Not supported yet: how long it lives. `0s` is for ever.
    pub ttl: Option<String>,
    /// Not supported yet: when it is removed.
    pub expires_at: Option<String>,
    /// Not supported: devices of the host.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(nullable)]
    pub devices: Vec<String>,
    /// Not supported: a GPU of the host.
    #[schema(value_type = Option<Object>)]
    pub gpu: Option<Value>,
    /// Not supported yet: volumes.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub volumes: Vec<Value>,
    /// Not supported yet: compression of its memory in standby.
    #[schema(value_type = Option<Object>)]
    pub snapshot_policy: Option<Value>,
    /// Not supported yet: standby when it is idle.
    #[schema(value_type = Option<Object>)]
    pub auto_standby: Option<Value>,
    /// Not supported yet: health checks. The image's own are carried out.
    #[schema(value_type = Option<Object>)]
    pub health_check: Option<Value>,
    /// Not supported yet: restarts.
    #[schema(value_type = Option<Object>)]
    pub restart_policy: Option<Value>,
}

/// Network of a new instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateNetwork {
    /// Whether it is connected.
    #[schema(default = true)]
    pub enabled: bool,
    /// Maximum rate to the guest, as `1Gbps` or `125MB/s`.
    pub bandwidth_download: Option<String>,
    /// Maximum rate from the guest.
    pub bandwidth_upload: Option<String>,
    /// Not supported yet: a proxy for what it sends.
    #[schema(value_type = Option<Object>)]
    pub egress: Option<Value>,
}

impl Default for CreateNetwork {
    fn default() -> CreateNetwork {
        CreateNetwork { enabled: true, bandwidth_download: None, bandwidth_upload: None, egress: None }
    }
}

impl CreateInstanceRequest {
    /// Returns the first field that asks for a feature that does not exist. A value that asks for
    /// nothing, as an empty list, is none.
    #[must_use]
    pub fn unsupported(&self) -> Option<&'static str> {
        let is_set = |value: &Option<Value>, off: &[(&str, Value)]| {
            value.as_ref().is_some_and(|value| asks_for_something(value, off))
        };
        first_asked([
            ("network.egress", is_set(&self.network.egress, &[("enabled", false.into())])),
            ("skip_guest_agent", self.skip_guest_agent),
            ("credentials", is_set(&self.credentials, &[])),
            ("ttl", !is_no_time(self.ttl.as_deref())),
            ("expires_at", self.expires_at.is_some()),
            ("devices", !self.devices.is_empty()),
            ("gpu", is_set(&self.gpu, &[])),
            ("volumes", !self.volumes.is_empty()),
            ("snapshot_policy", is_set(&self.snapshot_policy, &[])),
            ("auto_standby", is_set(&self.auto_standby, &[("enabled", false.into())])),
            ("health_check", is_set(&self.health_check, &[("type", "none".into())])),
            ("restart_policy", is_set(&self.restart_policy, &[("policy", "never".into())])),
        ])
    }
}

/// Changes of an instance. None is supported yet; an empty document changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpdateInstanceRequest {
    /// Not supported yet: new values of credentials.
    #[schema(value_type = Option<Object>)]
    pub env: Option<Value>,
    /// Not supported yet: standby when it is idle.
    #[schema(value_type = Option<Object>)]
    pub auto_standby: Option<Value>,
    /// Not supported yet: health checks.
    #[schema(value_type = Option<Object>)]
    pub health_check: Option<Value>,
    /// Not supported yet: restarts.
    #[schema(value_type = Option<Object>)]
    pub restart_policy: Option<Value>,
    /// Not supported yet: how long it lives.
    pub ttl: Option<String>,
    /// Not supported yet: when it is removed.
    pub expires_at: Option<String>,
}

impl UpdateInstanceRequest {
    /// Returns the first field that asks for a change.
    #[must_use]
    pub fn unsupported(&self) -> Option<&'static str> {
        first_asked([
            ("env", self.env.is_some()),
            ("auto_standby", self.auto_standby.is_some()),
            ("health_check", self.health_check.is_some()),
            ("restart_policy", self.restart_policy.is_some()),
            ("ttl", self.ttl.is_some()),
            ("expires_at", self.expires_at.is_some()),
        ])
    }
}

/// The first field that is asked for.
fn first_asked<const N: usize>(fields: [(&'static str, bool); N]) -> Option<&'static str> {
    fields.into_iter().find_map(|(field, is_asked)| is_asked.then_some(field))
}

/// Whether an object asks for something: it is not empty, and is not switched `off`.
fn asks_for_something(value: &Value, off: &[(&str, Value)]) -> bool {
    let Value::Object(fields) = value else { return !value.is_null() };
    !fields.is_empty() && !off.iter().any(|(field, value)| fields.get(*field) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &str) -> serde_json::Result<CreateInstanceRequest> {
        serde_json::from_str(&format!(r#"{{"name":"a","image":"b"{fields}}}"#))
    }

    #[test]
    fn a_feature_that_does_not_exist_is_named() {
        for (fields, named) in [
            ("", None),
            (r#","network":{"egress":{"enabled":true}}"#, Some("network.egress")),
            (r#","ttl":"5m""#, Some("ttl")),
            (r#","volumes":[{}]"#, Some("volumes")),
            (r#","health_check":{"type":"http"}"#, Some("health_check")),
            (r#","restart_policy":{"policy":"always"}"#, Some("restart_policy")),
        ] {
            assert_eq!(request(fields).unwrap().unsupported(), named, "{fields}");
        }
    }

    #[test]
    fn a_feature_that_is_switched_off_is_not_asked_for() {
        let off = r#","ttl":"0s","volumes":[],"devices":null,"gpu":null,"credentials":{},
            "network":{"egress":{"enabled":false}},"auto_standby":{"enabled":false},
            "health_check":{"type":"none"},"restart_policy":{"policy":"never"}"#;
        let request = request(off).unwrap();
        assert_eq!(request.unsupported(), None);
        assert!(request.network.enabled);
    }

    #[test]
    fn unknown_fields_are_left_aside_and_known_ones_are_checked() {
        assert!(request(r#","new_field":1"#).is_ok());
        for bad in [
            r#","vcpus":"2""#,
            r#","hypervisor":"xen""#,
            r#","env":{"A":1}"#,
            r#","cmd":"ls""#,
            r#","network":[true]"#,
        ] {
            assert!(request(bad).is_err(), "{bad}");
        }
    }
}
