//! Description of a VM in the `config.json` of a snapshot (`VmConfig` in `vmm/src/vm_config.rs`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::snapshot::{Error, MAX_SIZE, Result};

/// A VM, as far as the keeper of its snapshot has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Description {
    /// Its vCPUs.
    pub cpus: Cpus,
    /// Its memory.
    pub memory: Memory,
    /// Kernel and initramfs, or firmware.
    #[serde(default)]
    pub payload: Option<Payload>,
    /// Its disks.
    #[serde(default)]
    pub disks: Option<Vec<Disk>>,
}

/// The vCPUs of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Cpus {
    /// How many it was booted with.
    pub boot_vcpus: u32,
}

/// The memory of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Memory {
    /// Its size in bytes.
    pub size: u64,
    /// How much can be added, in bytes.
    #[serde(default)]
    pub hotplug_size: Option<u64>,
}

/// Files that a VM was booted from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Payload {
    /// The kernel.
    #[serde(default)]
    pub kernel: Option<PathBuf>,
    /// Its command line.
    #[serde(default)]
    pub cmdline: Option<String>,
}

/// A disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Disk {
    /// Where it is.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub readonly: bool,
}

/// Describes the VM of the snapshot at `config`.
///
/// # Errors
/// When the file cannot be read, or is no configuration.
pub fn describe(config: &Path) -> Result<Description> {
    let damaged = |reason: String| Error::Damaged { path: config.to_owned(), reason };
    let text = hypeman_files::read_at_most(config, MAX_SIZE)?
        .ok_or_else(|| damaged(format!("it is larger than {MAX_SIZE} bytes")))?;
    serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_may_be_absent_or_anything() {
        let scratch = tempfile::tempdir().unwrap();
        let config = scratch.path().join("config.json");
        let text = r#"{"cpus": {"boot_vcpus": 2, "max_vcpus": 4}, "memory": {"size": 1024, "prefault": false}, "disks": null,
            "payload": {"kernel": "/k"}, "net": "anything"}"#;
        std::fs::write(&config, text).unwrap();
        let described = describe(&config).unwrap();
        assert_eq!((described.cpus.boot_vcpus, described.memory.size, described.disks), (2, 1024, None));
        assert_eq!(described.payload.unwrap().kernel, Some("/k".into()));
        std::fs::write(&config, "{}").unwrap();
        assert!(describe(&config).unwrap_err().to_string().contains("config.json"));
    }
}
