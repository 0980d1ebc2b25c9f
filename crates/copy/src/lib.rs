//! Files on their way between the host and a guest: a tree becomes a tar stream, and a tar stream a tree.
//!
//! Each end runs both halves: who sends may be hostile. With [`Links::Refused`], [`unpack`] writes
//! nothing outside the directory and name that it is given, whatever the names and links in the
//! stream, and whatever lies there already.

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
