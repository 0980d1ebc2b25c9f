//! A contract double of Cloud Hypervisor: speaks its API as far as hypeman's driver uses it, with
//! its manners, and runs what the test guest would print instead of a guest. It stands in where the
//! real one or KVM cannot be had; the same tests run against the real one when
//! `HYPEMAN_TEST_CLOUD_HYPERVISOR` names it.
//!
//! Each manner names the source file it is taken from, in v53.0 unless another release is named.
//! The name by which it is called chooses the release whose manners it has: `...-v52` those before
//! v53.0.

mod api;
mod events;
mod guest;
mod net;
mod receiver;
mod ring;
mod serial;
mod vm;
mod vsock;

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result};
use clap::Parser;

/// The options that the driver uses (`cloud-hypervisor/src/main.rs`).
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
struct Arguments {
    /// Print the version
    #[arg(long)]
    version: bool,
    /// `fd=N`, a listening socket that was inherited, or a path
    #[arg(long)]
    api_socket: Option<String>,
    /// `fd=N`, where to write events
    #[arg(long)]
    event_monitor: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let own = std::env::current_exe().context("find out how it is called")?;
    let called = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release: u32 = match called.rsplit_once("-v") {
        Some((_, release)) => release.parse().context("its name ends in no release")?,
        None => 53,
    };
    if arguments.version {
        println!("cloud-hypervisor v{release}.0-double");
        return Ok(());
    }
    vsock::keep_descriptors();
    let events = events::Events::new(arguments.event_monitor.as_deref().map(inherited).transpose()?);
    let socket = arguments.api_socket.context("--api-socket is missing")?;
    let listener = if socket.starts_with("fd=") {
        UnixListener::from(inherited(&socket)?)
    } else {
        UnixListener::bind(socket)?
    };
    api::serve(listener, vm::Vmm::new(release, events))
}

/// The descriptor in `fd=N`.
#[allow(unsafe_code)]
fn inherited(option: &str) -> Result<OwnedFd> {
    let number = option.strip_prefix("fd=").and_then(|number| number.parse().ok());
    let number: i32 = number.with_context(|| format!("{option} is not fd=N"))?;
    // SAFETY: whoever started us says that this descriptor is open and ours, and each is taken
    // once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
