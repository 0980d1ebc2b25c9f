//! The drivers on real VMMs with the test guest: what holds for all of them, and what is one's own.
//! What cannot run here is skipped aloud.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod all;
mod bed;
mod cloud_hypervisor;
mod qemu;
