//! End-to-end tests on real VMs: the bed they lie in.
//!
//! A test works as a user does, through the `hypeman` binary, on a data directory that the tests
//! share: the kernel and the images are made once. What a machine lacks skips the tests that need
//! it, aloud.

pub mod bed;
pub mod ch;
pub mod console;
pub mod container;
pub mod disk;
pub mod fixtures;
pub mod guest;
pub mod layout;
pub mod logrotate;
pub mod measure;
pub mod needs;
pub mod netns;
pub mod processes;
pub mod registry;
pub mod server;
pub mod terminal;
pub mod vm;
pub mod wait;
