//! The `config.json` of a Cloud Hypervisor snapshot, made fit for where it is restored.
//!
//! A snapshot says where the serial line of its VM goes (`ConsoleConfig` in
//! `vmm/src/vm_config.rs`). One that was taken of a VM with `mode=File` would be restored to a file
//! that no truncation may touch; so before a restore, and in each fork, the line is put on a
//! socket. Everything that is not meant is left as it is: unknown fields, their order, the digits
//! of numbers.

use std::path::{Component, Path, PathBuf};

use hypeman_record::kind::Kind;

use super::json::Json;
pub use super::json::Malformed;

/// Largest `config.json` that is read, in bytes. One of a large VM has some 10 KiB.
pub(crate) const MAX_SIZE: u64 = 4 << 20;

/// A `config.json` that cannot be used; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what Cloud Hypervisor writes.
    #[error("{}: {reason}; the snapshot is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault and its place.
        reason: String,
    },
    /// It cannot be read or written.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
}

impl Error {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Damaged { .. } => Kind::Damaged,
            Error::Files(error) => Kind::of_files(error),
        }
    }
}

/// Result of these functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Changes that make a fork of a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Fork {
    /// Moved files and directories, from old to new absolute path. Of several that hold a path the
    /// first counts.
    pub moves: Vec<(PathBuf, PathBuf)>,
    /// The new socket of the vsock device, if there is one; its CID stays.
    pub vsock: Option<String>,
    /// Changes of each network device, in their order.
    pub nets: Vec<Net>,
}

/// Changes of a network device; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct Net {
    /// Name of the tap device.
    pub tap: Option<String>,
    /// MAC address of the guest.
    pub mac: Option<String>,
    /// IP address of the tap device.
    pub ip: Option<String>,
    /// Its network mask.
    pub mask: Option<String>,
}

/// Puts the serial line of the snapshot at `config` on `socket`. A configuration that has it there
/// already, or has no serial line, is not touched.
///
/// # Errors
/// When the file is no configuration, or cannot be replaced; it is untouched then.
pub fn prepare_restore(config: &Path, socket: &str) -> Result<()> {
    rewrite(config, |text| restored(text, socket))
}

/// Does what [`prepare_restore`] does, and gives the fork what it has of its own.
///
/// # Errors
/// As of [`prepare_restore`]; and when the fork has more network devices than the snapshot.
pub fn prepare_fork(config: &Path, socket: &str, fork: &Fork) -> Result<()> {
    rewrite(config, |text| forked(text, socket, fork))
}

/// Replaces a file by what `change` makes of it, or leaves it when that is `None`.
fn rewrite(
    path: &Path,
    change: impl FnOnce(&[u8]) -> std::result::Result<Option<Vec<u8>>, Malformed>,
) -> Result<()> {
    let damaged = |reason: Malformed| Error::Damaged { path: path.to_owned(), reason: reason.to_string() };
    let Some(text) = hypeman_files::read_at_most(path, MAX_SIZE)? else {
        return Err(damaged(Malformed(format!("it is larger than {MAX_SIZE} bytes"))));
    };
    match change(&text).map_err(damaged)? {
        Some(changed) => Ok(hypeman_files::replace(path, &changed)?),
        None => Ok(()),
    }
}

/// The text of a configuration with its serial line on `socket`; `None` when nothing has to change.
///
/// # Errors
/// The fault of the text and its place.
pub fn restored(text: &[u8], socket: &str) -> std::result::Result<Option<Vec<u8>>, Malformed> {
    let mut config = parse(text)?;
    if !move_serial(&mut config, socket)? {
        return Ok(None);
    }
    Ok(Some(config.to_vec()?))
}

/// The text of a configuration as `fork` has it, with its serial line on `socket`; `None` when
/// nothing has to change.
///
/// # Errors
/// The fault of the text and its place.
pub fn forked(text: &[u8], socket: &str, fork: &Fork) -> std::result::Result<Option<Vec<u8>>, Malformed> {
    let mut config = parse(text)?;
    let before = config.to_vec()?;
    config.for_each_text(&mut |text| {
        let mut moves = fork.moves.iter();
        if let Some(moved) = moves.find_map(|(source, target)| moved(text, source, target)) {
            *text = moved;
        }
    });
    move_serial(&mut config, socket)?;
    if let (Some(socket), Some(vsock)) = (&fork.vsock, object(&mut config, "vsock")?) {
        vsock.set("socket", socket);
    }
    move_nets(&mut config, &fork.nets)?;
    let after = config.to_vec()?;
    Ok((after != before).then_some(after))
}

fn parse(text: &[u8]) -> std::result::Result<Json, Malformed> {
    match Json::parse(text)? {
        config @ Json::Object(_) => Ok(config),
        _ => Err(Malformed("it is no JSON object".to_owned())),
    }
}

/// The object in a field, if there is one.
fn object<'a>(config: &'a mut Json, field: &str) -> std::result::Result<Option<&'a mut Json>, Malformed> {
    match config.get_mut(field) {
        None => Ok(None),
        Some(value @ Json::Object(_)) => Ok(Some(value)),
        Some(_) => Err(Malformed(format!("no object at /{field}"))),
    }
}

/// Puts the serial line on `socket`; whether it was elsewhere.
fn move_serial(config: &mut Json, socket: &str) -> std::result::Result<bool, Malformed> {
    let Some(serial) = object(config, "serial")? else { return Ok(false) };
    if serial.text("mode") == Some("Socket") && serial.text("socket") == Some(socket) {
        return Ok(false);
    }
    serial.set("mode", "Socket");
    serial.set("socket", socket);
    serial.remove("file");
    Ok(true)
}

fn move_nets(config: &mut Json, nets: &[Net]) -> std::result::Result<(), Malformed> {
    let devices = match config.get_mut("net") {
        None => &mut Vec::new(),
        Some(Json::Array(devices)) => devices,
        Some(_) => return Err(Malformed("no array at /net".to_owned())),
    };
    if devices.len() < nets.len() {
        let counts = format!("{} network devices at /net, and the fork has {}", devices.len(), nets.len());
        return Err(Malformed(counts));
    }
    for (index, (device, net)) in devices.iter_mut().zip(nets).enumerate() {
        if !matches!(device, Json::Object(_)) {
            return Err(Malformed(format!("no object at /net/{index}")));
        }
        for (field, value) in [("tap", &net.tap), ("mac", &net.mac), ("ip", &net.ip), ("mask", &net.mask)] {
            if let Some(value) = value {
                device.set(field, value);
            }
        }
    }
    Ok(())
}

/// `text` below `target`, if it is the path `source` or one below it. A path that leaves `source`
/// again is not below it.
fn moved(text: &str, source: &Path, target: &Path) -> Option<String> {
    let below = Path::new(text).strip_prefix(source).ok()?;
    if !Path::new(text).is_absolute() || below.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let moved = if below.as_os_str().is_empty() { target.to_owned() } else { target.join(below) };
    moved.into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests;
