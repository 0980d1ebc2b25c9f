//! The names that a shell offers: of instances, images and kernels in the data directory.

use std::ffi::OsStr;

use clap_complete::CompletionCandidate;
use hypeman_host::{Config, Host};

/// Names of instances.
pub(crate) fn instances(typed: &OsStr) -> Vec<CompletionCandidate> {
    let instances = host().and_then(|host| host.list().ok());
    let names =
        instances.into_iter().flat_map(|(instances, _)| instances).map(|instance| instance.record.name);
    beginning_with(typed, names)
}

/// Names of images.
pub(crate) fn images(typed: &OsStr) -> Vec<CompletionCandidate> {
    let images = host().and_then(|host| host.list_images().ok());
    beginning_with(typed, images.into_iter().flatten().flat_map(|image| image.names))
}

/// Versions of kernels.
pub(crate) fn kernels(typed: &OsStr) -> Vec<CompletionCandidate> {
    let kernels = host().and_then(|host| host.list_kernels().ok());
    beginning_with(typed, kernels.into_iter().flatten().map(|kernel| kernel.version))
}

/// Names of snapshots.
pub(crate) fn snapshots(typed: &OsStr) -> Vec<CompletionCandidate> {
    let found = host().and_then(|host| host.list_snapshots().ok());
    let names = found.into_iter().flat_map(|(snapshots, _)| snapshots);
    beginning_with(typed, names.filter_map(|snapshot| snapshot.record.name))
}

/// The usual data directory: what else stands on the line is not told to us.
fn host() -> Option<Host> {
    Host::open(Config::from_env(None).ok()?).ok()
}

fn beginning_with(typed: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}
