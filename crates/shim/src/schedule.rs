//! A shim has little to do, but that at once: a VMM that writes its console to a socket drops,
//! before some 280 bytes are taken, what comes on top (docs/limits.md).
#![allow(unsafe_code)] // sched_setattr(2), which no crate of ours wraps

/// The slice asked for, in nanoseconds: the shortest that Linux grants. What is due sooner runs
/// sooner (EEVDF), and no more CPU goes with it, as with a higher priority.
const SLICE: u64 = 100_000;

/// SCHED_FLAG_RESET_ON_FORK: the VMM and our other threads have the usual slice.
const RESET_ON_FORK: u64 = 0x01;

/// `struct sched_attr` as of its first version (include/uapi/linux/sched/types.h).
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks that this thread runs soon after it was woken. Linux before 6.12 takes no notice
/// (Documentation/scheduler, `sched_runtime` of SCHED_OTHER), and one that refuses is not needed.
pub(crate) fn wake_soon() {
    let size = size_of::<Attributes>();
    let attributes = Attributes {
        size: u32::try_from(size).unwrap_or_default(),
        policy: 0, // SCHED_OTHER
        flags: RESET_ON_FORK,
        nice: 0,
        priority: 0,
        runtime: SLICE,
        deadline: 0,
        period: 0,
    };
    // SAFETY: sched_setattr(2) reads `size` bytes from a struct of that size that lives until it
    // returns, and changes nothing but how this thread is scheduled.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}
