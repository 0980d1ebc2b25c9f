//! Everything that is said to a running VM: by its shim's socket, to its agent, to its keyboard; and the following of its log.
//!
//! Owns the conversations, not the connections: who may connect, and to which shim, is the caller's to decide ([`guest::Dial`]). It
//! knows no store, no lock and no terminal. All but [`client`] is async and needs a tokio runtime; nothing here blocks one.

mod background;
pub mod client;
pub mod copy;
pub mod error;
pub mod events;
pub mod exec;
pub mod follow;
pub mod guest;
pub mod keys;
pub mod plan;

pub use background::in_background;
pub use error::{Error, Result};
pub use guest::Guest;
