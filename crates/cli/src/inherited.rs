//! Descriptors that our caller has left open to us.
#![allow(unsafe_code)] // they are known by their numbers only

use std::os::fd::BorrowedFd;

use rustix::io::FdFlags;

/// The first one that is not a standard stream.
const FIRST: i32 = 3;

/// Keeps them from those whom we start, who may live as long as a VM: an open secret, a lock, or a pipe whose end somebody waits for.
/// What is handed over on purpose is opened to its receiver later.
pub(crate) fn keep_to_ourselves() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number >= FIRST).collect::<Vec<_>>() {
        // SAFETY: it was open a moment ago, and no other thread runs yet that could have closed it; the directory's own is closed
        // by now, and setting a flag of a number that is none just fails.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
}
