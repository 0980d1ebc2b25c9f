//! Trees of files as tar streams, and back.
//!
//! Owns both halves of a copy; the sender may be hostile. With [`Links::Refused`], [`unpack`]
//! writes nothing outside the directory and name that it is given, whatever the names and links in
//! the stream.
//!
//! Must not know: guests, the agent, paths beyond its own two.

mod kernel_files;
mod left_out;
mod members;
mod pack;
mod place;
mod unpack;

pub use left_out::LeftOut;
pub use pack::pack;
pub use place::Links;
pub use unpack::{Trust, unpack};
