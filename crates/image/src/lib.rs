//! OCI images to disks; kernels and initramfs.
//!
//! Owns the stores of images and kernels, and the registry's client. Layers are never unpacked on
//! the host: their entries are joined in memory (`tree`) and come out as one tar stream, of which
//! `tar2sqfs` makes a read-only squashfs.
//!
//! Must not know: instances, VMMs.

mod assemble;
mod compression;
mod config;
mod digest;
mod disk;
mod entry;
mod error;
mod image;
mod import;
mod initramfs;
pub mod kernel;
mod layer;
mod limits;
mod manifest;
mod members;
mod modules;
mod names;
mod overlay;
mod pax;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod source;
mod spool;
mod store;
mod tool;
mod tree;

#[cfg(feature = "fuzz")]
pub mod fuzz;

pub use compression::decompressed;
pub use config::{Changes, Config, Health};
pub use digest::of as digest_of;
pub use error::{Error, Result};
pub use image::Image;
pub use limits::DEFAULT_SIZE;
pub use names::full as whole_name;
pub use overlay::create_overlay;
pub use progress::{Progress, Quiet, Stage};
pub use pull::PullRequest;
pub use registry::Login;
pub use store::Store;
pub use tool::find_tool;
