//! What keeps a VMM that a guest has taken over from everything that is not its own.
//!
//! Several walls, each of which stands when another has a hole: an unprivileged user without capabilities, Landlock, a filter of system
//! calls, namespaces, a cgroup. [`prepare`] builds what this host can give in the parent, with words for what it cannot; the forked
//! child only walks in ([`Child::enter`]).

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
