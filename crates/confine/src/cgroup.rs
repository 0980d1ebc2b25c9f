//! A cgroup of its own for each VMM: so much memory and so many threads, and no more; and one for
//! our own processes. Version 2 only, where it can be written.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Below it lie those of all VMs.
const ALL: &str = "hypeman";

/// Beside those it is the one of our own processes.
const OURS: &str = "ours";

/// File into which a process is written to be moved.
const MEMBERS: &str = "cgroup.procs";

/// Controllers of a VMM's cgroup.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// A cgroup without members.
pub(crate) struct Group {
    pub(crate) path: PathBuf,
    /// Where a process writes itself.
    pub(crate) members: OwnedFd,
}

/// Makes a cgroup with limits.
pub(crate) fn make(name: &str, memory: u64, threads: u64) -> Result<Group, String> {
    let place = place()?;
    make_in(&place, name, memory, threads)
        .map_err(|error| format!("no cgroup can be made in {}: {error}", place.display()))
}

fn make_in(place: &Path, name: &str, memory: u64, threads: u64) -> std::io::Result<Group> {
    let all = place.join(ALL);
    make_directory(&all)?;
    enable(&all)?;
    let path = all.join(name);
    make_directory(&path)?;
    let limits = || {
        write(&path.join("memory.max"), &memory.to_string())?;
        write(&path.join("pids.max"), &threads.to_string())?;
        // Half a VMM is none. Older kernels have no such file.
        let _ = write(&path.join("memory.oom.group"), "1");
        OpenOptions::new().write(true).open(path.join(MEMBERS))
    };
    match limits() {
        Ok(members) => Ok(Group { members: members.into(), path }),
        Err(error) => {
            remove(&path);
            Err(error)
        }
    }
}

/// Removes the cgroup of a VMM that has ended. One that cannot be removed limits nobody.
pub fn remove(path: &Path) {
    let _ = std::fs::remove_dir(path);
}

/// Moves this process, and those of its children that are in the same cgroup, out of its starter's
/// cgroup into one of ours: a manager that ends all of a service, as systemd does with
/// `KillMode=control-group` (systemd.kill(5)), does not end VMs, their networks and their logs with
/// it. Takes a grace period of RCU, some 10 ms, in which nobody on this host can fork. Returns the
/// cgroup; that at the top, which nobody ends, is as good.
///
/// # Errors
/// Says why it cannot; it stays where it was then.
pub fn leave_starter() -> Result<PathBuf, String> {
    let (top, ours) = hierarchy()?;
    let group = leave(&top, &ours, rustix::process::geteuid().is_root())?;
    if group != top {
        for child in children() {
            let is_left = std::fs::read_to_string(format!("/proc/{child}/cgroup"))
                .is_ok_and(|text| text.lines().any(|line| line.strip_prefix("0::/") == Some(ours.as_str())));
            if is_left {
                write(&group.join(MEMBERS), &child)
                    .map_err(|error| format!("{}: {error}", group.display()))?;
            }
        }
    }
    Ok(group)
}

/// Children of this process.
fn children() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// At the top for root; for others in the nearest group above theirs that takes it.
fn leave(top: &Path, ours: &str, is_root: bool) -> Result<PathBuf, String> {
    let here = top.join(ours);
    // At the top, or left already.
    if here == top || here.ends_with(Path::new(ALL).join(OURS)) {
        return Ok(here);
    }
    let above = if is_root { top } else { here.parent().unwrap_or(top) };
    let mut reason = String::new();
    for place in above.ancestors().take_while(|place| place.starts_with(top)) {
        let (all, group) = (place.join(ALL), place.join(ALL).join(OURS));
        let moved = make_directory(&all).and_then(|()| make_directory(&group));
        match moved.and_then(|()| write(&group.join(MEMBERS), "0")) {
            Ok(()) => return Ok(group),
            Err(error) => reason = format!("{}: {error}", group.display()),
        }
    }
    Err(reason)
}

/// Where cgroup version 2 is mounted, and our group below it.
fn hierarchy() -> Result<(PathBuf, String), String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let top = mount_point(&mounts).ok_or("cgroup version 2 is not mounted")?;
    let ours = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let ours = ours.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Ok((top, ours.to_owned()))
}

/// Where cgroups for VMs can be made: at the top for root, for others in the nearest group above
/// theirs that is given to them.
pub(crate) fn place() -> Result<PathBuf, String> {
    let (top, ours) = hierarchy()?;
    let is_root = rustix::process::geteuid().is_root();
    find(&top, if is_root { "" } else { &ours })
}

/// The nearest group at or above the parent of `ours` that has what is needed.
fn find(top: &Path, ours: &str) -> Result<PathBuf, String> {
    let ours = top.join(ours);
    let above = if ours == top { &*ours } else { ours.parent().unwrap_or(top) };
    let mut reason = String::new();
    for place in above.ancestors().take_while(|place| place.starts_with(top)) {
        match check(place) {
            Ok(()) => return Ok(place.to_owned()),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

/// Whether cgroups with both limits can be made in a group.
fn check(place: &Path) -> Result<(), String> {
    let controllers = std::fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &&&str| controllers.split_whitespace().any(|controller| controller == **name);
    if let Some(lacking) = CONTROLLERS.iter().find(|name| !has(name)) {
        return Err(format!("{} has no controller {lacking} (of cgroup version 2)", place.display()));
    }
    let path = place.join("cgroup.subtree_control");
    enable(place).map_err(|error| format!("{}: {error}", path.display()))
}

/// Has the groups below limited by both, if they are not already.
fn enable(group: &Path) -> std::io::Result<()> {
    let path = group.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&path)?;
    let is_enabled = |name: &&str| enabled.split_whitespace().any(|enabled| enabled == *name);
    match CONTROLLERS
        .iter()
        .filter(|name| !is_enabled(name))
        .map(|name| format!("+{name}"))
        .collect::<Vec<_>>()
    {
        all if all.is_empty() => OpenOptions::new().write(true).open(&path).map(drop),
        lacking => write(&path, &lacking.join(" ")),
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Where cgroup version 2 is mounted (proc_pid_mountinfo(5)).
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let is_it = |line: &&str| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("cgroup2 "));
    mounts.lines().find(is_it)?.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as the kernel shows a cgroup; the kernel makes the files in those that are made
    /// in it.
    fn group(path: &Path, controllers: &str, enabled: &str) {
        std::fs::create_dir_all(path).unwrap();
        std::fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(path.join("cgroup.subtree_control"), enabled).unwrap();
    }

    #[test]
    fn the_nearest_group_above_that_has_both_controllers_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let top = scratch.path();
        group(top, "cpu memory pids", "memory pids");
        group(&top.join("user"), "memory pids", "memory pids");
        group(&top.join("user/session"), "memory", "");
        group(&top.join("user/session/ours"), "", "");
        assert_eq!(find(top, "user/session/ours"), Ok(top.join("user")));
        assert_eq!(find(top, ""), Ok(top.to_owned()));
        std::fs::write(top.join("cgroup.controllers"), "cpu\n").unwrap();
        assert!(find(top, "").unwrap_err().contains("no controller memory"));
    }

    #[test]
    fn a_process_leaves_its_starters_group_for_the_nearest_that_takes_it() {
        let scratch = tempfile::tempdir().unwrap();
        let top = scratch.path();
        let takes = |place: &str| {
            let group = top.join(place).join("hypeman/ours");
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join(MEMBERS), "").unwrap();
            group
        };
        std::fs::create_dir_all(top.join("user/session/app")).unwrap();
        let (of_root, of_user) = (takes(""), takes("user"));
        assert_eq!(leave(top, "user/session/app", false), Ok(of_user.clone()), "session has no such file");
        assert_eq!(leave(top, "user/session/app", true), Ok(of_root));
        assert_eq!(leave(top, "user/hypeman/ours", false), Ok(of_user), "it is there already");
        assert_eq!(leave(top, "", true), Ok(top.to_owned()), "nobody ends all of a host");
        assert!(leave(&top.join("none"), "x", true).is_err());
    }

    #[test]
    fn version_2_is_found_among_others() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("1 2 3 / / rw - ext4 x rw"), None);
    }

    #[test]
    fn limits_are_written() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("hypeman/vm");
        group(&scratch.path().join("hypeman"), "memory pids", "");
        std::fs::create_dir_all(&path).unwrap();
        for file in ["memory.max", "pids.max", "cgroup.procs"] {
            std::fs::write(path.join(file), "").unwrap();
        }
        let made = make_in(scratch.path(), "vm", 4096, 7).unwrap();
        assert_eq!(made.path, path);
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap();
        assert_eq!((read("memory.max"), read("pids.max")), ("4096".to_owned(), "7".to_owned()));
    }
}
