//! Snapshots: a VM's memory and devices beside its disks, and what has to be true for it to go on from them.
//!
//! ```text
//!   snapshot.new/   being written by a VMM whose guest is paused
//!        │ publish: whole and synced
//!        v
//!   snapshot/       whole; nobody has run since: the instance is in standby
//!        │ consume: the guest is about to go on
//!        v
//!   snapshot.used/  of no use any more
//! ```
//!
//! Each arrow is one rename. So `snapshot/` can always be restored, whatever was killed before: a VMM that is still
//! there then has not run since, and can be ended.
//!
//! Owns the directories of a memory and their compression. Must not know: instances, VMMs.

pub mod compression;
pub mod cpu;
pub mod error;
pub mod manifest;
mod sealed;
pub mod standby;
pub mod summary;

pub use error::{Error, Result};
pub use manifest::{Algorithm, Compressed, Manifest};
