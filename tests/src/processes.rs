//! Processes, as the host sees them.

use std::path::Path;
use std::process::Child;

use rustix::process::Pid;

/// Names of the processes whose working directory is that of an instance: its VMM, and whatever
/// that has started. The shim, which works there too, is not among them.
#[must_use]
pub fn inside(directory: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let inside = processes.filter(|process| {
        let cwd = std::fs::read_link(process.path().join("cwd")).unwrap_or_default();
        // The link of a process whose directory was removed ends so (proc_pid_cwd(5)).
        let home = directory.join("vmm"); // where VMMs are at home
        let cwd = if cwd == home { directory.to_owned() } else { cwd };
        cwd == directory || cwd.to_string_lossy() == format!("{} (deleted)", directory.display())
    });
    let name = |process: std::fs::DirEntry| std::fs::read_to_string(process.path().join("comm")).ok();
    let names = inside.filter_map(name).map(|name| name.trim().to_owned());
    names.filter(|name| !name.starts_with("hypeman")).collect()
}

/// Whether a process runs: it is there, and no zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with(['Z', 'X']))
}

/// The shim of the instance in a directory, if it lives.
#[must_use]
pub fn shim(directory: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(directory.join("shim.pid")).ok()?;
    let pid: i32 = text.lines().next()?.parse().ok()?;
    Pid::from_raw(pid).filter(|pid| is_alive(pid.as_raw_nonzero().get().unsigned_abs()))
}

/// A process that is killed when its test is done with it.
#[derive(Debug)]
pub struct KilledOnDrop(pub Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
