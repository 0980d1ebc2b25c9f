//! The HTTP API: upstream's operations over one host, so that its published clients work unchanged.
//!
//! Owns listening, tokens, the configuration of the server, and the translation between the API's
//! documents (`hypeman-wire`) and the functions of [`hypeman_host::Host`]. It keeps no state of
//! instances: the server may be killed at any moment, and the command line works beside it.
//!
//! Must not know: stores, locks, shims.

mod access;
mod app;
mod auth;
mod call;
mod config;
mod connection;
mod hmac;
mod listen;
mod metrics;
mod observed;
mod pulling;
mod pulls;
mod reference;
mod refusal;
mod routes;
mod sample;
mod scope;
mod scrape;
mod secret;
mod serve;
mod shown;
mod spool;
mod telemetry;
#[cfg(test)]
mod tests;
mod token;

pub use config::{Config, Found};
pub use listen::Address;
pub use scope::Scope;
pub use secret::Secret;
pub use serve::{Error, serve};
pub use telemetry::{Receiver, Telemetry};
pub use token::{Grant, issue};
