//! Bytes from a VM's serial line to disk and to people. Knows nothing of VMs.
//!
//! [`capture`] brings what a pipe or socket holds into a [`log::Log`], which is append-only, rotates itself and does not
//! mind what others do to its files. [`reader`] shows it, from the end or from the beginning, across rotations.

pub mod buffer;
pub mod capture;
pub mod chain;
pub mod event;
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
