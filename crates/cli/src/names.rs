//! The names that a shell offers: of instances, images and kernels in the data directory.

use std::ffi::OsStr;

use clap_complete::CompletionCandidate;
use hypeman_instance::snapshots::Snapshots;

use crate::context::Context;

/// Names of instances.
pub(crate) fn instances(typed: &OsStr) -> Vec<CompletionCandidate> {
    let instances = context().and_then(|context| context.instances.list().ok());
    let names =
        instances.into_iter().flat_map(|(instances, _)| instances).map(|instance| instance.record.name);
    beginning_with(typed, names)
}

/// Names of images.
pub(crate) fn images(typed: &OsStr) -> Vec<CompletionCandidate> {
    let images = context().and_then(|context| context.images.list().ok());
    beginning_with(typed, images.into_iter().flatten().flat_map(|image| image.names))
}

/// Versions of kernels.
pub(crate) fn kernels(typed: &OsStr) -> Vec<CompletionCandidate> {
    let kernels = context().and_then(|context| context.kernels.list().ok());
    beginning_with(typed, kernels.into_iter().flatten().map(|kernel| kernel.version))
}

/// Names of snapshots.
pub(crate) fn snapshots(typed: &OsStr) -> Vec<CompletionCandidate> {
    let found = context().and_then(|context| Snapshots::new(&context.data_dir).list().ok());
    let names = found.into_iter().flat_map(|(snapshots, _)| snapshots);
    beginning_with(typed, names.filter_map(|snapshot| snapshot.record.name))
}

/// The usual data directory: what else stands on the line is not told to us.
fn context() -> Option<Context> {
    Context::new(None, true).ok()
}

fn beginning_with(typed: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}
