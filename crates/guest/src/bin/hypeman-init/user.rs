//! Users and groups by the image's own files: a static binary has no name service.

use crate::report::{Context, Failure};

/// User of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// The operation of this file, for errors.
const DOING: &str = "find the user of the image";

/// Resolves `user[:group]` as docker does; both may be names or numbers, and empty is root.
pub(crate) fn resolve(spec: &str) -> Result<User, Failure> {
    find(spec, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// Reads a file of lines. Bytes that are no UTF-8, as in a comment of another time, spoil no more
/// than the name that they stand in.
fn read(path: &str) -> Result<String, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{path}: {error}")).context(DOING),
    }
}

fn find(spec: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let (user, group_name) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let is_user = |entry: &Vec<String>| entry.len() >= 6 && (entry[0] == user || entry[2] == user);
    let entry = passwd.lines().map(fields).find(is_user);
    let number = |text: &str| text.parse::<u32>().ok();
    let uid = entry.as_ref().and_then(|entry| number(&entry[2])).or_else(|| number(user));
    let uid = uid.ok_or_else(|| format!("/etc/passwd has no user {user:?}")).context(DOING)?;
    let primary = entry.as_ref().and_then(|entry| number(&entry[3])).unwrap_or(0);
    let gid = match group_name {
        None => primary,
        Some(name) => find_group(name, group)
            .ok_or_else(|| format!("/etc/group has no group {name:?}"))
            .context(DOING)?,
    };
    // With a group of their own choice users have no others but it, as docker has it. The primary
    // group is among them: else a file that is closed to it would be open to a program that has
    // dropped it (CVE-2022-36109).
    let mut groups = vec![gid];
    if let (Some(entry), None) = (&entry, group_name) {
        groups.extend(memberships(&entry[0], group).into_iter().filter(|other| *other != gid));
    }
    let home =
        entry.map(|entry| entry[5].clone()).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned());
    Ok(User { uid, gid, groups, home })
}

fn find_group(name: &str, group: &str) -> Option<u32> {
    let named = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    named.or_else(|| name.parse().ok())
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_member = fields.len() >= 4 && fields[3].split(',').any(|name| name == user);
        is_member.then(|| fields[2].parse().ok()).flatten()
    };
    group.lines().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nextra:x:50:web,root\n";

    #[test]
    fn a_file_that_is_not_utf8_counts_line_by_line_and_one_that_cannot_be_read_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("passwd");
        let text = b"juergen:x:501:501:J\xfcrgen:/:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n";
        std::fs::write(&path, text).unwrap();
        let read_all = read(path.to_str().unwrap()).unwrap();
        for spec in ["web", "1000"] {
            let user = find(spec, &read_all, "docker:x:2000:web\n").unwrap();
            let expected = (1000, 1000, vec![1000, 2000], "/home/web".to_owned());
            assert_eq!((user.uid, user.gid, user.groups, user.home), expected);
        }
        assert_eq!(read("/nowhere/passwd").unwrap(), "");
        assert!(read(scratch.path().to_str().unwrap()).is_err(), "a directory");
    }

    #[test]
    fn users_and_groups_by_name_or_number() {
        let who =
            |spec| find(spec, PASSWD, GROUP).ok().map(|user| (user.uid, user.gid, user.groups, user.home));
        assert_eq!(who(""), Some((0, 0, vec![0, 50], "/root".into())));
        assert_eq!(who("web"), Some((33, 34, vec![34, 50], "/srv".into())));
        assert_eq!(who("33:extra"), Some((33, 50, vec![50], "/srv".into())));
        assert_eq!(who("1000:1000"), Some((1000, 1000, vec![1000], "/".into())));
        assert!(who("nobody").is_none() && who("web:nogroup").is_none());
    }
}
