//! The sandbox of a VMM: a user without capabilities, Landlock, a filter of system calls,
//! namespaces, a cgroup.
//!
//! Owns the measures, each of which holds when another has a hole. [`prepare`] builds in the parent
//! what this host supports, and says what it does not; the forked child only enters
//! ([`Child::enter`]).
//!
//! Must not know: which VMM it is, instances, records beyond their words.

mod calls;
pub mod cgroup;
mod child;
mod devices;
mod files;
mod needs;
mod prepare;
mod user;
mod view;

pub use child::Child;
pub use needs::{Given, Needs};
pub use prepare::{Confinement, Error, missing, prepare, survey};
pub use user::User;
