//! Virtual machine monitors behind one trait: how a VM is described, started, watched and stopped.
//!
//! Knows nothing of instances. Every path is relative to the VMM's working directory, so that no socket path is too long
//! for `sun_path` and a directory can be copied without rewriting anything in it.

pub mod hypervisor;
pub mod spec;
