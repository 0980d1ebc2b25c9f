//! Whom a VMM runs as, when root starts it: an unprivileged user who owns nothing but what VMs are
//! given.

use std::fmt;
use std::io::Result;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Gid, Uid};

use crate::needs::Needs;

/// The name of a user of the system's that is taken if there is one.
const NAME: &str = "hypeman";

/// The number of the user and group if there is none: of a range that nobody gives to users
/// (systemd, docs/UIDS-GIDS.md).
const NUMBER: u32 = 60_950;

/// Why a VMM that finds its files by name runs as root and goes where root goes.
pub(crate) const BY_NAME: &str = "its snapshot is of a release before there was confinement; boot it anew";

/// A user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    uid: Uid,
    gid: Gid,
    /// The group of /dev/kvm, where that is needed to open it.
    kvm: Option<Gid>,
}

impl fmt::Display for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.uid.as_raw(), self.gid.as_raw())
    }
}

impl User {
    /// The one for VMs.
    fn find() -> User {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = number_of(&users, NAME).unwrap_or((NUMBER, NUMBER));
        User { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), kvm: None }
    }

    /// Becomes this user, in a forked child, for good.
    pub(crate) fn become_it(&self) -> Result<()> {
        match self.kvm {
            Some(kvm) => rustix::thread::set_thread_groups(&[kvm])?,
            None => rustix::thread::set_thread_groups(&[])?,
        }
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        Ok(rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)?)
    }
}

/// Number and group of a user in the text of a passwd(5); none who is root.
fn number_of(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = fields.find(|fields| fields.first() == Some(&name))?;
    let number = |index: usize| fields.get(index)?.parse().ok().filter(|number| *number != 0);
    Some((number(2)?, number(3)?))
}

/// Whom a VMM on this host would run as.
pub(crate) fn of_this_host(has_devices: bool) -> std::result::Result<User, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(User { uid: rustix::process::geteuid(), gid: rustix::process::getegid(), kvm: None });
    }
    let kvm = if has_devices { None } else { kvm_group()? };
    Ok(User { kvm, ..User::find() })
}

/// Makes the VM's files that user's, who is us already when we are not root.
pub(crate) fn prepare(
    needs: &Needs<'_>,
    home: &Path,
    has_devices: bool,
) -> std::result::Result<User, String> {
    let user = match needs.kvm {
        true => of_this_host(has_devices)?,
        false => of_this_host(true)?,
    };
    if !rustix::process::geteuid().is_root() {
        return Ok(user);
    }
    if let Some(closed) = closed_to(needs.program, user) {
        return Err(format!(
            "user {user} cannot run {}: {closed} is not open to all",
            needs.program.display()
        ));
    }
    let own = || -> Result<()> {
        for file in needs.files {
            let stat = rustix::fs::fstat(&file.file)?;
            if (stat.st_uid, stat.st_gid) != (user.uid.as_raw(), user.gid.as_raw()) {
                rustix::fs::fchown(&file.file, Some(user.uid), Some(user.gid))?;
            }
        }
        own_all(home, user)
    };
    own().map_err(|error| format!("{user} cannot be made the owner of the VM's files: {error}"))?;
    Ok(user)
}

/// Gives a directory and all below it to a user; links are not followed.
fn own_all(path: &Path, user: User) -> Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            own_all(&entry?.path(), user)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

/// Returns the part of a program's path that keeps another user from running it.
fn closed_to(program: &Path, user: User) -> Option<String> {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let is_closed = |path: &&Path| {
        path.metadata().map_or(true, |metadata| {
            let bit = if metadata.uid() == user.uid.as_raw() { 0o100 } else { 0o001 };
            metadata.mode() & bit == 0
        })
    };
    real.ancestors().find(is_closed).map(|path| path.display().to_string())
}

/// The group that a stranger has to be in to open /dev/kvm; `None` when all may.
fn kvm_group() -> std::result::Result<Option<Gid>, String> {
    let closed = || "only root can open /dev/kvm here".to_owned();
    let metadata = std::fs::metadata("/dev/kvm").map_err(|error| format!("/dev/kvm: {error}"))?;
    if !metadata.file_type().is_char_device() {
        return Err(closed());
    }
    match metadata.mode() {
        mode if mode & 0o006 == 0o006 => Ok(None),
        mode if mode & 0o060 == 0o060 && metadata.gid() != 0 => Ok(Some(Gid::from_raw(metadata.gid()))),
        _ => Err(closed()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_system_s_user_is_taken_and_never_root() {
        let users = "root:x:0:0::/:/bin/sh\nhypeman:x:990:991::/:/usr/sbin/nologin\nbad:x:0:5::/:\n";
        assert_eq!(number_of(users, "hypeman"), Some((990, 991)));
        assert_eq!((number_of(users, "bad"), number_of(users, "nobody")), (None, None));
    }

    #[test]
    fn a_program_in_a_closed_directory_is_named_by_it() {
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("program");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(closed_to(&program, User::find()), Some(scratch.path().display().to_string()));
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o711)).unwrap();
        assert_eq!(closed_to(&program, User::find()), None);
    }
}
