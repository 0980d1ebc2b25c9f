//! The documents of the HTTP API, as upstream's clients send and read them
//! (npm `@onkernel/hypeman` and PyPI `hypeman`, both 0.28.0).
//!
//! Owns the JSON and its rules: a document that breaks one is refused when it is read. Each type
//! tells its OpenAPI schema.
//!
//! Must not know: hosts, instances, HTTP.

pub mod create;
pub mod error;
pub mod exec;
pub mod files;
pub mod human;
pub mod image;
pub mod instance;
pub mod lines;
pub mod name;
mod null;
pub mod snapshot;
pub mod system;
pub mod tags;

pub use error::Error;
pub use name::Name;
pub use tags::Tags;
