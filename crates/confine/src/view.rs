//! Files that not even their owner can write: seen through a mount of their own, which is read-only
//! and nowhere to be found.
//!
//! An image is shared by many VMs, whose user owns it, since only an owner can open a file that is
//! nobody else's to read. Landlock keeps them from writing it; so does this, where there is no
//! Landlock.
#![allow(unsafe_code)] // mount_setattr(2), which has no function elsewhere

use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::mount::OpenTreeFlags;

use crate::needs::Needs;

/// Read-only views of the files that are to be read only, with the numbers where the VMM expects
/// them.
pub(crate) fn prepare(needs: &Needs<'_>) -> std::result::Result<Vec<(OwnedFd, i32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("mounts are root's to make".to_owned());
    }
    let read_only = needs.files.iter().filter(|file| !file.writable);
    let views = read_only.map(|file| Ok((view(&file.file)?, file.number))).collect::<Result<Vec<_>>>();
    views.map_err(|error| format!("files cannot be shown read-only: {error}"))
}

fn view(file: impl AsFd) -> Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let view = rustix::mount::open_tree(file, "", flags)?;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is an empty string with its end mark, and the structure is valid for as many
    // bytes as is said.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            view.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if set == 0 { Ok(view) } else { Err(Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn what_is_seen_so_cannot_be_written() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: making mounts needs root");
        }
        let file = tempfile::tempfile().unwrap();
        let view = view(&file).unwrap();
        let path = format!("/proc/self/fd/{}", view.as_raw_fd());
        assert!(OpenOptions::new().read(true).open(&path).is_ok());
        let error = OpenOptions::new().write(true).open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    }
}
