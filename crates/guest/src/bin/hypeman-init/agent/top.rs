//! Which processes run.

use hypeman_agent::protocol::{ProcessInfo, Processes};

use super::session::all;

/// `USER_HZ`, in which Linux tells times on x86-64 (proc_pid_stat(5)), in milliseconds.
const TICK_MS: u64 = 10;

/// Page size.
const PAGE: u64 = 4096;

/// Longest command that is told, in bytes.
const MAX_COMMAND: usize = 4096;

/// All but the kernel's threads.
pub(crate) fn top() -> Processes {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = uptime.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let now_ms = (seconds * 1000.0) as u64;
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let mut processes: Vec<_> = all().into_iter().filter_map(|pid| look(pid, now_ms)).collect();
    for process in &mut processes {
        process.user = name_of(process.uid, &passwd);
    }
    processes.sort_unstable_by_key(|process| process.pid);
    Processes { processes }
}

fn look(pid: i32, now_ms: u64) -> Option<ProcessInfo> {
    let directory = std::path::PathBuf::from(format!("/proc/{pid}"));
    let stat = std::fs::read_to_string(directory.join("stat")).ok()?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // The fields from the third on, in the order of proc_pid_stat(5).
    let [state, ppid, flags] = [fields.first()?, fields.get(1)?, fields.get(6)?];
    let is_kernel_thread = flags.parse::<u32>().ok()? & PF_KTHREAD != 0;
    if is_kernel_thread {
        return None;
    }
    let mut command = std::fs::read(directory.join("cmdline")).unwrap_or_default();
    command.truncate(MAX_COMMAND);
    let mut command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    if command.is_empty() {
        command = format!("[{}]", head.split_once('(')?.1); // a zombie has no arguments
    }
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&directory).ok()?);
    Some(ProcessInfo {
        pid,
        ppid: ppid.parse().ok()?,
        uid,
        user: None,
        state: state.chars().next()?,
        cpu_ms: (number(11)? + number(12)?) * TICK_MS,
        rss: number(21)? * PAGE,
        age_ms: now_ms.saturating_sub(number(19)? * TICK_MS),
        command,
    })
}

/// A thread of the kernel's (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}
