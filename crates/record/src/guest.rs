//! Data that a VM's init and the host exchange: the configuration disk, the status disk and the
//! names of the devices.
//!
//! Both disks are raw block devices whose first bytes are one JSON document, padded with NULs. The
//! guest is hostile: the host parses what it finds on the status disk with a size limit and
//! believes no word of it beyond this module's types.

pub mod config;
pub mod control;
pub mod health;
pub mod status;
pub mod ulimit;

/// Serial numbers of the virtio-blk disks, by which init finds them (`/sys/block/*/serial`).
pub mod disk {
    /// The image's read-only root filesystem (squashfs).
    pub const ROOT: &str = "root";
    /// The instance's writable overlay (ext4, made by the host).
    pub const OVERLAY: &str = "overlay";
    /// The modules of the guest's kernel, read-only (squashfs); only where it has some.
    pub const MODULES: &str = "modules";
    /// [`crate::guest::config::GuestConfig`] as JSON, read-only.
    pub const CONFIG: &str = "config";
    /// [`crate::guest::status::Status`] as JSON, written by init.
    pub const STATUS: &str = "status";
}

/// Name of the virtio-serial port on which inits of before there was an agent take
/// [`control::Request`]s, one JSON object a line.
pub const CONTROL_PORT: &str = "hypeman.control";
