//! A request for a new instance, as the host understands it.

use hypeman_host::request::CreateRequest;
use hypeman_host::size;
use hypeman_record::network::{NetworkSettings, Rates};
use hypeman_record::record::Settings;
use hypeman_record::spec::{HypervisorKind, RateLimit};
use hypeman_wire::create::CreateInstanceRequest;
use hypeman_wire::human;

use super::{PLATFORM, hypervisor_kind};
use crate::config::{ByteSize, Config};
use crate::refusal::{Answer, Refusal};

/// Upstream's defaults.
const VCPUS: u32 = 2;
const MEMORY: u64 = 1 << 30;
const OVERLAY: u64 = 10 << 30;

/// Translates a request. What a field asks for and does not exist is refused by the field's name.
///
/// # Errors
/// 400 with a code for each kind of value, 501 for a feature.
pub(crate) fn create_request(request: CreateInstanceRequest, config: &Config) -> Answer<CreateRequest> {
    if let Some(field) = request.unsupported() {
        return Err(Refusal::no_feature(field));
    }
    check_platform(request.platform.as_deref())?;
    let kind = hypervisor_kind(request.hypervisor.unwrap_or(config.hypervisor.default))?;
    let connected = config.network.default.clone().filter(|name| !name.is_empty());
    Ok(CreateRequest {
        name: Some(request.name.as_str().to_owned()),
        network: if request.network.enabled { connected } else { Some("none".to_owned()) },
        settings: settings(&request, kind, config)?,
        image: Some(request.image),
        tags: request.tags.into_map(),
        entrypoint: request.entrypoint.filter(|words| !words.is_empty()),
        arguments: request.cmd.unwrap_or_default(),
        env: request.env,
        ..CreateRequest::default()
    })
}

/// Refuses a platform whose images cannot run.
///
/// # Errors
/// `invalid_platform`, or `Bad Request` when it is none.
pub(crate) fn check_platform(platform: Option<&str>) -> Answer<()> {
    let Some(platform) = platform.filter(|platform| !platform.is_empty()) else { return Ok(()) };
    let is_part = |part: &str| {
        let mut letters = part.chars();
        !part.is_empty() && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.')
    };
    match platform.split('/').collect::<Vec<_>>()[..] {
        _ if platform == PLATFORM => Ok(()),
        [os, arch] | [os, arch, _] if is_part(os) && is_part(arch) => {
            let message = format!("platform {platform:?}: images for {PLATFORM} can run here");
            Err(Refusal::invalid("invalid_platform", message))
        }
        _ => Err(Refusal::malformed(format!("platform: {platform:?} is none; give one like {PLATFORM}"))),
    }
}

fn settings(request: &CreateInstanceRequest, kind: HypervisorKind, config: &Config) -> Answer<Settings> {
    let limits = &config.limits;
    let rate = |field, code, text: &Option<String>| {
        let set = text.as_deref().filter(|text| !text.is_empty());
        let parse = |text: &str| human::parse_rate(text, size::parse);
        set.map(|text| parse(text).map_err(|reason| invalid(code, field, text, &reason))).transpose()
    };
    let memory =
        bytes("size", "invalid_size", request.size.as_deref(), Some(limits.max_memory_per_instance))?;
    let overlay = request.overlay_size.as_deref();
    let overlay = bytes("overlay_size", "invalid_overlay_size", overlay, Some(limits.max_overlay_size))?;
    let hotplug = bytes("hotplug_size", "invalid_hotplug_size", request.hotplug_size.as_deref(), None)?;
    let disk = rate("disk_io_bps", "invalid_disk_io_bps", &request.disk_io_bps)?;
    let network = &request.network;
    Ok(Settings {
        hypervisor: kind,
        vcpus: vcpus(request.vcpus, limits.max_vcpus_per_instance)?,
        memory: memory.unwrap_or(MEMORY),
        disk_size: overlay.unwrap_or(OVERLAY),
        // Upstream's command line always asks for some; the answer tells that there is none.
        hotplug_memory: hotplug.filter(|size| *size > 0 && kind == HypervisorKind::CloudHypervisor),
        disk_rate_limit: disk
            .map(|bytes| RateLimit { bytes_per_second: Some(bytes), operations_per_second: None }),
        network: NetworkSettings {
            rates: Rates {
                inbound: rate(
                    "network.bandwidth_download",
                    "invalid_bandwidth_download",
                    &network.bandwidth_download,
                )?,
                outbound: rate(
                    "network.bandwidth_upload",
                    "invalid_bandwidth_upload",
                    &network.bandwidth_upload,
                )?,
            },
            ..NetworkSettings::default()
        },
        ..Settings::default()
    })
}

/// A size in bytes; an empty one is the default.
fn bytes(field: &str, code: &'static str, text: Option<&str>, most: Option<ByteSize>) -> Answer<Option<u64>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let bytes = size::parse(text).map_err(|reason| invalid(code, field, text, &reason))?;
    match most {
        Some(most) if bytes > most.0 => {
            let reason = format!("this server allows {} at most", human::size(most.0));
            Err(invalid(code, field, text, &reason))
        }
        _ => Ok(Some(bytes)),
    }
}

fn vcpus(vcpus: Option<i64>, most: u32) -> Answer<u32> {
    match vcpus.unwrap_or(0) {
        0 => Ok(VCPUS.min(most)),
        vcpus => {
            let fits = u32::try_from(vcpus).ok().filter(|vcpus| *vcpus <= most);
            fits.ok_or_else(|| {
                invalid("invalid_request", "vcpus", &vcpus.to_string(), &format!("must be 1 to {most}"))
            })
        }
    }
}

fn invalid(code: &'static str, field: &str, value: &str, reason: &str) -> Refusal {
    Refusal::invalid(code, format!("{field}: {value:?}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &str) -> Answer<CreateRequest> {
        let request = serde_json::from_str(&format!(r#"{{"name":"a","image":"b"{fields}}}"#)).unwrap();
        create_request(request, &Config::default())
    }

    #[test]
    fn the_defaults_are_upstream_s() {
        for fields in ["", r#","vcpus":0,"size":"","overlay_size":"","hotplug_size":"3GB""#] {
            let settings = request(fields).unwrap().settings;
            assert_eq!((settings.vcpus, settings.memory, settings.disk_size), (2, 1 << 30, 10 << 30));
            assert_eq!(settings.hotplug_memory, None, "QEMU cannot add memory");
        }
        let request =
            request(r#","size":"512 MB","network":{"enabled":false},"disk_io_bps":"100MB/s""#).unwrap();
        assert_eq!((request.settings.memory, request.network.as_deref()), (512 << 20, Some("none")));
        assert_eq!(request.settings.disk_rate_limit.unwrap().bytes_per_second, Some(100 << 20));
    }

    #[test]
    fn a_value_that_cannot_be_used_has_a_code_and_is_named() {
        for (fields, code, word) in [
            (r#","size":"-1GB""#, "invalid_size", "-1GB"),
            (r#","size":"64GB""#, "invalid_size", "32.0 GB"),
            (r#","overlay_size":"1TB""#, "invalid_overlay_size", "100.0 GB"),
            (r#","hotplug_size":"much""#, "invalid_hotplug_size", "much"),
            (r#","vcpus":-1"#, "invalid_request", "1 to 16"),
            (r#","vcpus":17"#, "invalid_request", "17"),
            (r#","disk_io_bps":"fast""#, "invalid_disk_io_bps", "fast"),
            (r#","network":{"bandwidth_upload":"x"}"#, "invalid_bandwidth_upload", "x"),
            (r#","platform":"linux/arm64""#, "invalid_platform", "linux/amd64"),
            (r#","platform":"linux""#, "Bad Request", "linux"),
            (r#","hypervisor":"firecracker""#, "not_supported", "firecracker"),
            (r#","ttl":"5m""#, "not_supported", "ttl"),
        ] {
            let refusal = request(fields).unwrap_err();
            assert_eq!(refusal.code(), code, "{fields}");
            assert!(refusal.message().contains(word), "{fields}: {}", refusal.message());
        }
    }
}
