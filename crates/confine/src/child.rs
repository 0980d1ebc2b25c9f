//! Steps of a VMM's process between fork(2) and execve(2). They may make system calls, but use no
//! memory allocator and no lock (signal-safety(7)).
#![allow(unsafe_code)] // descriptors that are handed over by their numbers, and a system call

use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use hypeman_record::descriptors;
use rustix::mount::{MountPropagationFlags, MoveMountFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use seccompiler::BpfProgram;

use crate::calls;
use crate::user::User;

/// The sandbox that it enters.
#[derive(Debug)]
pub struct Child {
    pub(crate) cgroup: bool,
    pub(crate) devices: bool,
    pub(crate) rules: bool,
    /// Only root can become another.
    pub(crate) user: Option<User>,
    /// Capabilities that it keeps of root's.
    pub(crate) capabilities: CapabilitySet,
    pub(crate) filters: Vec<BpfProgram>,
}

impl Child {
    /// Confines the calling process, for good.
    ///
    /// # Errors
    /// When it cannot enter a part of the sandbox; the program must not run then.
    ///
    /// # Safety
    /// To be called once, in a child that was just forked, in which the descriptors of the
    /// confinement lie at their numbers.
    pub unsafe fn enter(&mut self) -> Result<()> {
        // SAFETY: the caller promises that it lies there and that nobody else has taken it.
        let take = |number| unsafe { OwnedFd::from_raw_fd(number) };
        if self.cgroup {
            rustix::io::write(take(descriptors::CGROUP), b"0\n")?; // itself (cgroups(7))
        }
        if self.devices {
            enter_namespaces(&take(descriptors::DEVICES))?;
        }
        // A dump would have the guest's memory in it.
        rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        if let Some(user) = &self.user {
            user.become_it()?;
        }
        let (kept, none) = (self.capabilities, CapabilitySet::empty());
        let kept = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
        rustix::thread::set_capabilities(None, kept)?;
        rustix::thread::set_no_new_privs(true)?;
        if self.rules {
            restrict(&take(descriptors::RULES))?;
        }
        self.filters.iter_mut().try_for_each(calls::apply)
    }
}

/// A view of the host without its network, its queues and its devices, but for those that lie in
/// `devices`.
fn enter_namespaces(devices: &OwnedFd) -> Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWNET;
    // SAFETY: it has the side effects of unshare(2) on a process of one thread that shares nothing
    // with another one by its flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    // Mounts here are invisible to others.
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(devices.as_fd(), c"", rustix::fs::CWD, c"/dev", flags)?)
}

fn restrict(ruleset: &OwnedFd) -> Result<()> {
    // SAFETY: landlock_restrict_self(2) takes a descriptor and flags, and touches no memory.
    let restricted = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if restricted == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
