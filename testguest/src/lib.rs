//! A bare-metal guest of some hundred bytes that prints numbered lines to its serial port, and what
//! tells whether any of them is missing, doubled or broken. It boots in milliseconds on QEMU and
//! Cloud Hypervisor, and runs where Linux does not.

pub mod account;
pub mod check;
mod options;

use std::path::Path;

pub use options::{Finish, Options};

/// The guest: an ELF64 with a PVH note, as `--kernel` takes it.
pub const ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/testguest.elf"));

/// Writes the guest to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_to(path: &Path) -> std::io::Result<()> {
    std::fs::write(path, ELF)
}
