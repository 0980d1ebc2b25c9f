//! Everything that is said to a running VM: to its shim, to its agent, to its keyboard; and the
//! following of its log.
//!
//! Owns the conversations, not the connections: who may connect, and to which shim, the caller
//! decides ([`guest::Dial`]). All but [`client`] is async and needs a tokio runtime; nothing else
//! here blocks.
//!
//! Must not know: stores, locks, terminals.

mod background;
pub mod client;
pub mod copy;
pub mod error;
pub mod events;
pub mod exec;
pub mod follow;
pub mod guest;
pub mod keys;
pub mod line;
pub mod plan;

pub use background::in_background;
pub use error::{Error, Result};
pub use guest::Guest;
