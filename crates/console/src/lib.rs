//! Bytes from a VM's serial line to disk and to people.
//!
//! Owns the [`capture`] from a pipe or socket, the append-only [`log::Log`] that rotates itself and
//! survives what others do to its files, the [`buffer`] that outlives its process, and the
//! [`reader`] across rotations.
//!
//! Must not know: VMs, instances, records, terminals.

pub mod buffer;
pub mod capture;
pub mod chain;
pub mod event;
mod hub;
pub mod keyboard;
pub mod line;
pub mod lines;
pub mod log;
mod pace;
mod place;
pub mod reader;
pub mod settle;
mod source;
mod times;
pub mod watch;
pub mod writer;
