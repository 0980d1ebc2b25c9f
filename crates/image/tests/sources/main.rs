//! Images from real sources, down to the squashfs the guest would mount.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

mod field;
mod fixtures;
mod import;
mod registry;
