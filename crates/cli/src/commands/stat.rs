//! stat: what is at a path in a guest.

use std::ffi::OsStr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use hypeman_agent::names::{from_text, to_text};
use hypeman_agent::protocol::Found;
use hypeman_host::Host;
use jiff::Timestamp;

use crate::args::Format;
use crate::background::runtime;
use crate::{agent, output};

pub(crate) fn stat(host: &Host, name: &str, path: &OsStr, follow: bool, format: Format) -> Result<ExitCode> {
    let instance = host.find(name)?;
    let found = runtime()?.block_on(host.guest(&instance).stat(&to_text(path), follow));
    let found = found.map_err(|error| agent::explained(error, &instance))?;
    let path = path.display();
    if format == Format::Json {
        output::document(&found)?;
        return Ok(if found.exists { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    match &found {
        Found { error: Some(error), .. } => bail!("{name}: {path}: {}", hypeman_agent::brief(error)),
        Found { exists: false, .. } => bail!("{name}:{path}: no such file"),
        _ => {}
    }
    let target = found
        .link_target
        .as_ref()
        .map(|target| format!(" -> {}", from_text(target).display()))
        .unwrap_or_default();
    let modified = Timestamp::from_second(found.modified).map(|time| time.to_string()).unwrap_or_default();
    output::lines([
        format!("{path}{target}"),
        format!(
            "  {}, {} bytes, {} {:o}",
            kind(&found),
            found.size,
            letters(found.mode),
            found.mode & 0o7777
        ),
        format!("  owner {}:{}, modified {modified}", found.uid, found.gid),
    ])?;
    Ok(ExitCode::SUCCESS)
}

fn kind(found: &Found) -> &'static str {
    match rustix::fs::FileType::from_raw_mode(found.mode) {
        rustix::fs::FileType::RegularFile => "file",
        rustix::fs::FileType::Directory => "directory",
        rustix::fs::FileType::Symlink => "symbolic link",
        rustix::fs::FileType::Fifo => "FIFO",
        rustix::fs::FileType::Socket => "socket",
        rustix::fs::FileType::CharacterDevice => "character device",
        rustix::fs::FileType::BlockDevice => "block device",
        _ => "unknown type",
    }
}

/// Permissions as ls(1) shows them, without the type.
fn letters(mode: u32) -> String {
    let mut letters: Vec<char> = (0..9)
        .rev()
        .map(|bit| if mode >> bit & 1 == 1 { "xwr" } else { "---" }.chars().nth(bit % 3).unwrap_or('-'))
        .collect();
    for (bit, at, set, unset) in [(0o4000, 2, 's', 'S'), (0o2000, 5, 's', 'S'), (0o1000, 8, 't', 'T')] {
        if mode & bit != 0 {
            letters[at] = if letters[at] == 'x' { set } else { unset };
        }
    }
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn permissions_are_shown_as_ls_shows_them() {
        for (mode, shown) in [
            (0o755, "rwxr-xr-x"),
            (0o640, "rw-r-----"),
            (0o4711, "rws--x--x"),
            (0o1777, "rwxrwxrwt"),
            (0o2644, "rw-r-Sr--"),
        ] {
            assert_eq!(super::letters(mode), shown);
        }
    }
}
