//! The DNS server of a network.

mod answer;
mod error;
mod process;
mod start;
mod table;
mod tcp;

pub use error::Error;
pub use process::serve;
pub use start::{READY, TASK, hold, start};
