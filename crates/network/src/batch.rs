//! Rules of VMs that start at once, put in together: one call of `nft` and one transaction for all
//! that wait, and not one for each.
//!
//! Each start writes its rules to a file of its own below the network's directory, and then waits
//! for the network's lock. The one that gets it puts in all that is there, and removes the files. A
//! start that gets the lock later, and finds its file gone, has its rules.

use std::path::{Path, PathBuf};

use hypeman_files::AtPath;
use hypeman_record::network::{Attached, Network};

use crate::error::Result;
use crate::network::Networks;
use crate::{link, nft, rules};

/// The directory of the rules that are to be put in.
const WAITING: &str = "waiting";

/// Puts in the rules of a VM whose TAP is there. `put_back` makes all rules anew, those of this VM
/// too: where these do not fit in, they were flushed, or something stands in their way.
pub(crate) fn add(
    networks: &Networks,
    network: &Network,
    attached: &Attached,
    put_back: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let directory = networks.directory(&network.name).join(WAITING);
    std::fs::create_dir_all(&directory).at(&directory)?;
    let file = directory.join(&attached.port.tap);
    hypeman_files::replace_unsynced(&file, rules::add(network, attached).as_bytes())?;
    let _held = networks.lock(&network.name)?;
    if !file.exists() {
        return Ok(()); // somebody has put them in
    }
    let files = all_of(&directory, &file)?;
    if files.len() > 1 && put_in(&files) {
        files.iter().for_each(|file| drop(std::fs::remove_file(file)));
        return Ok(());
    }
    // One of them may be at fault: each by itself then.
    let ruled = if put_in(std::slice::from_ref(&file)) { Ok(()) } else { put_back() };
    std::fs::remove_file(&file).at(&file)?;
    ruled
}

/// Files that wait, with `ours`. A file of a start that was killed before it got the lock is
/// removed: its TAP has gone.
fn all_of(directory: &Path, ours: &Path) -> Result<Vec<PathBuf>> {
    let mut files = hypeman_files::entries(directory)?;
    files.retain(|file| file.extension().is_none()); // others are being written
    if files.len() > 1 {
        let taps = link::names()?;
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let is_there = file == ours || taps.iter().any(|tap| *tap == name);
            if !is_there {
                let _ = std::fs::remove_file(file);
            }
            is_there
        });
    }
    Ok(files)
}

/// Puts in the rules in these files, all or none.
fn put_in(files: &[PathBuf]) -> bool {
    let texts = files.iter().map(std::fs::read_to_string).collect::<std::io::Result<Vec<_>>>();
    texts.is_ok_and(|texts| nft::run(&texts.concat()).is_ok())
}
