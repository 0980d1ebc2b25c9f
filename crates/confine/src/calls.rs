//! Which system calls a VMM may make. It starts no process, signals and traces none, connects to
//! nobody, and changes nothing of the host.
//!
//! QEMU's `-sandbox` and Cloud Hypervisor's filters come on top; ours holds from the program's
//! first instruction, and for all programs.

use std::collections::BTreeMap;
use std::io::{Error, Result};

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// Description of the filter.
pub(crate) const DESCRIPTION: &str =
    "no new process, no signal and no connection to another, nothing of the host's to change";

/// Stands in a filter for the pid of the process that it is for, which its forked child puts there.
const ITS_PID: u32 = 0x7e57_91d0;

/// Bit of the numbers of the x32 ABI's system calls, by which a filter by number could be passed
/// (seccomp(2)).
const X32: u32 = 0x4000_0000;

/// Refused whatever the arguments.
const NEVER: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_connect,
    // Other processes.
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The host's file systems.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_fanotify_init,
    // The host itself.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];

/// The filters, to be given the pid and applied by the child.
pub(crate) fn filters(io_uring: bool) -> std::result::Result<Vec<BpfProgram>, String> {
    let built = || -> std::result::Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let refused = rules(io_uring)?;
        // To glibc clone3(2), whose flags no filter can see, is then one that the kernel does not
        // have yet.
        let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        Ok(vec![program(refused, libc::EPERM)?, program(unknown, libc::ENOSYS)?])
    };
    built().map_err(|error| format!("the filter of system calls cannot be built: {error}"))
}

fn rules(
    io_uring: bool,
) -> std::result::Result<BTreeMap<c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    let is = |argument, operator, value: u32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into())
    };
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        NEVER.iter().map(|&call| (call, Vec::new())).collect();
    if !io_uring {
        rules.insert(libc::SYS_io_uring_setup, Vec::new());
    }
    let thread = flag(libc::CLONE_THREAD);
    let no_thread = is(0, SeccompCmpOp::MaskedEq(thread.into()), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]);
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, vec![SeccompRule::new(vec![is(0, SeccompCmpOp::Ne, ITS_PID)?])?]);
    }
    // prlimit(2) of another process; 0 is the caller.
    let another = vec![is(0, SeccompCmpOp::Ne, 0)?, is(0, SeccompCmpOp::Ne, ITS_PID)?];
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(another)?]);
    // Streams of the local kind are all that Cloud Hypervisor makes.
    let kind = SeccompCmpOp::MaskedEq(0xf);
    let other_family = SeccompRule::new(vec![is(0, SeccompCmpOp::Ne, flag(libc::AF_UNIX))?])?;
    let datagram = SeccompRule::new(vec![is(1, kind.clone(), flag(libc::SOCK_DGRAM))?])?;
    let packet = SeccompRule::new(vec![is(1, kind, flag(libc::SOCK_SEQPACKET))?])?;
    rules.insert(libc::SYS_socket, vec![other_family, datagram, packet]);
    Ok(rules)
}

fn flag(constant: libc::c_int) -> u32 {
    constant.unsigned_abs()
}

fn program(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    error: libc::c_int,
) -> std::result::Result<BpfProgram, seccompiler::BackendError> {
    let refuse = SeccompAction::Errno(flag(error));
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?;
    let filter: BpfProgram = filter.try_into()?;
    // Load the number of the system call; refuse it if it is one of x32's (linux/bpf_common.h,
    // linux/seccomp.h).
    let load = sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let is_x32 = sock_filter { code: 0x35, jt: 0, jf: 1, k: X32 };
    let refuse = sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | flag(libc::EPERM) };
    Ok([load, is_x32, refuse].into_iter().chain(filter).collect())
}

/// Applies a filter to the calling process, whose pid comes into it. Makes no use of memory.
pub(crate) fn apply(filter: &mut BpfProgram) -> Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    filter
        .iter_mut()
        .filter(|instruction| instruction.k == ITS_PID)
        .for_each(|instruction| instruction.k = pid);
    seccompiler::apply_filter(filter).map_err(|_| Error::last_os_error())
}
