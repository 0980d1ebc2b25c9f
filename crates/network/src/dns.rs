//! The DNS server of a network.

mod answer;
mod error;
pub mod process;
mod start;
mod table;
mod tcp;

pub use error::Error;
pub use start::{READY, TASK, hold, start};
