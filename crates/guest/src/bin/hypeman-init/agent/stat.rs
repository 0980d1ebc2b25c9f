//! Looks at the file of a path.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hypeman_agent::names;
use hypeman_agent::protocol::Found;

/// Looks. That there is nothing is no error.
pub(crate) fn stat(path: &str, follow: bool) -> Found {
    let path = Path::new("/").join(names::from_text(path));
    let metadata = if follow { path.metadata() } else { path.symlink_metadata() };
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) => {
            let is_gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
            return Found { error: (!is_gone).then(|| error.to_string()), ..Found::default() };
        }
    };
    let target = metadata.is_symlink().then(|| std::fs::read_link(&path).ok()).flatten();
    Found {
        exists: true,
        is_dir: metadata.is_dir(),
        is_file: metadata.is_file(),
        is_symlink: metadata.is_symlink(),
        link_target: target.map(|target| names::to_text(target.as_os_str())),
        mode: metadata.mode(),
        size: metadata.size(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified: metadata.mtime(),
        error: None,
    }
}
