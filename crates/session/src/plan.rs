//! Where a copy goes and what it is called there: docker cp's rules
//! (docs.docker.com/reference/cli/docker/container/cp). Paths are text, for those of a guest are no
//! paths here.

use crate::error::{Error, Result};

/// One side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side<'a> {
    /// In an instance: its name, and the path there.
    Guest(&'a str, &'a str),
    /// A path here.
    Here(&'a str),
    /// A tar stream on standard input or output.
    Stream,
}

impl<'a> Side<'a> {
    /// Parses a side. A path here may be told from one in an instance by a `/` or `.` before it.
    #[must_use]
    pub fn of(text: &'a str) -> Side<'a> {
        match text.split_once(':') {
            _ if text == "-" => Side::Stream,
            Some((name, path))
                if !name.is_empty() && !text.starts_with(['.', '/']) && !name.contains('/') =>
            {
                Side::Guest(name, path)
            }
            _ => Side::Here(text),
        }
    }
}

/// A copy that can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The directory into which it goes.
    pub(crate) directory: String,
    /// Its name there; empty when only the content of the source is copied.
    pub(crate) name: String,
}

/// Facts about source and destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) source: &'a str,
    pub(crate) source_is_dir: bool,
    /// Through all links.
    pub(crate) target: &'a str,
    /// Whether what is there is a directory; `None` if nothing is.
    pub(crate) target_is_dir: Option<bool>,
    pub(crate) parent_is_dir: bool,
}

/// Decides.
pub(crate) fn plan(known: Known<'_>) -> Result<Plan> {
    let Known { source, source_is_dir, target, target_is_dir, parent_is_dir } = known;
    if !source_is_dir && source.ends_with('/') {
        return unfit(source, "it is no directory");
    }
    let renamed = Plan { directory: parent(target).to_owned(), name: base(target).to_owned() };
    match target_is_dir {
        Some(true) => {
            let name = if source_is_dir && is_contents(source) { "" } else { base(source) };
            Ok(Plan { directory: target.to_owned(), name: name.to_owned() })
        }
        Some(false) if source_is_dir => unfit(target, "a directory cannot be copied to a file"),
        Some(false) if target.ends_with('/') => unfit(target, "it is no directory"),
        Some(false) => Ok(renamed),
        None if !parent_is_dir => unfit(parent(target), "there is no such directory to copy to"),
        None if !source_is_dir && target.ends_with('/') => {
            unfit(target, "there is no such directory to copy to")
        }
        None => Ok(renamed),
    }
}

fn unfit(path: &str, reason: &str) -> Result<Plan> {
    Err(Error::Path { path: path.to_owned(), reason: reason.to_owned() })
}

/// Whether the contents of a directory are meant.
fn is_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.") || base(path).is_empty()
}

/// The last part of a path; empty for a root.
pub(crate) fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Returns the path's parent.
pub(crate) fn parent(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_tells_them() {
        for (text, side) in [
            ("vm:/etc", Side::Guest("vm", "/etc")),
            ("vm:", Side::Guest("vm", "")),
            ("vm:a:b", Side::Guest("vm", "a:b")),
            ("./vm:x", Side::Here("./vm:x")),
            ("/vm:x", Side::Here("/vm:x")),
            ("dir/a:b", Side::Here("dir/a:b")),
            ("file", Side::Here("file")),
            ("-", Side::Stream),
        ] {
            assert_eq!(Side::of(text), side, "{text}");
        }
    }

    /// The table of docs.docker.com/reference/cli/docker/container/cp.
    #[test]
    fn a_copy_goes_where_docker_s_goes() {
        let to = |source, source_is_dir, target, target_is_dir, parent_is_dir| {
            let known = Known { source, source_is_dir, target, target_is_dir, parent_is_dir };
            plan(known).ok().map(|plan| (plan.directory, plan.name))
        };
        let some = |directory: &str, name: &str| Some((directory.to_owned(), name.to_owned()));
        // A file.
        assert_eq!(to("/a/file", false, "/d/new", None, true), some("/d", "new"));
        assert_eq!(to("/a/file", false, "/d/new/", None, true), None);
        assert_eq!(to("/a/file", false, "/no/new", None, false), None);
        assert_eq!(to("/a/file", false, "/d/old", Some(false), true), some("/d", "old"));
        assert_eq!(to("/a/file", false, "/d", Some(true), true), some("/d", "file"));
        assert_eq!(to("/a/file/", false, "/d", Some(true), true), None);
        assert_eq!(to("file", false, "new", None, true), some(".", "new"));
        // A directory.
        assert_eq!(to("/a/dir", true, "/d/new", None, true), some("/d", "new"));
        assert_eq!(to("/a/dir", true, "/d/new/", None, true), some("/d", "new"));
        assert_eq!(to("/a/dir", true, "/d/old", Some(false), true), None);
        assert_eq!(to("/a/dir", true, "/d", Some(true), true), some("/d", "dir"));
        assert_eq!(to("/a/dir/", true, "/d/", Some(true), true), some("/d/", "dir"));
        assert_eq!(to("/a/dir/.", true, "/d", Some(true), true), some("/d", ""));
        assert_eq!(to(".", true, "/d", Some(true), true), some("/d", ""));
        assert_eq!(to("/", true, "/d", Some(true), true), some("/d", ""));
        assert_eq!(to("/a/dir", true, "/", Some(true), true), some("/", "dir"));
    }
}
