//! The files and directories that a VMM needs.

use std::os::fd::OwnedFd;
use std::path::Path;

/// A file that the VMM is given.
#[derive(Debug)]
pub struct Given {
    /// The open file.
    pub file: OwnedFd,
    /// The number by which the VMM knows it.
    pub number: i32,
    /// Whether it may be written.
    pub writable: bool,
}

/// Needs of a VMM; the sandbox gives it nothing else.
#[derive(Debug)]
pub struct Needs<'a> {
    /// Its program.
    pub program: &'a Path,
    /// Its own directory, below which it may do what it likes; `None` for one that has to find its
    /// files by name.
    pub home: Option<&'a Path>,
    /// The files of its VM.
    pub files: &'a [Given],
    /// Whether it runs its guest on KVM.
    pub kvm: bool,
    /// Whether it has a filter of its own that is stricter about io_uring than ours can be.
    pub io_uring: bool,
    /// Name of its cgroup.
    pub name: &'a str,
    /// The most memory for guest and VMM together, in bytes.
    pub memory: u64,
    /// The most threads.
    pub threads: u64,
}
