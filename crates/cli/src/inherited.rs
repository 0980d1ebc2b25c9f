//! Descriptors that our caller has left open to us.
#![allow(unsafe_code)] // they are known by their numbers only

/// The first one that is not a standard stream.
const FIRST: i32 = 3;

/// Keeps them from those whom we start, who may live as long as a VM: an open secret, a lock, or a
/// pipe whose end somebody waits for. Descriptors that are passed on purpose are opened to their
/// receiver later.
pub(crate) fn keep_to_ourselves() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number >= FIRST).collect::<Vec<_>>() {
        // SAFETY: fcntl(2) takes any number: it sets the flag of an open descriptor, and fails with
        // EBADF for one that is closed, as that of the directory is by now. Nothing is owned or
        // borrowed by it.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
