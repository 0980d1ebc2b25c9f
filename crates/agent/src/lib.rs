//! What the host and the agent in a guest say to each other, and how it gets there.
//!
//! From below: a channel (virtio-serial, vsock) carries bytes, and may break off and begin again at any byte. A [`link::Link`] over it
//! is one session: frames that are whole or not there. [`mux`] puts many streams with flow control each on a session, and on a stream go
//! [`frames`] with [`protocol`]'s messages.
//!
//! The shim has the host's end of the channel, and only joins streams to its clients; `hypeman` speaks with the agent. Each end bounds what
//! the other makes it keep: the guest is hostile.

pub mod data;
pub mod frames;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod link;
pub mod mux;
pub mod protocol;

/// The port on which the agent listens on vsock, where the channel is one.
pub const VSOCK_PORT: u32 = 1024;

/// Name of the virtio-serial port that is the channel elsewhere.
pub const PORT_NAME: &str = "hypeman.agent";
