//! Memory that takes less room. A snapshot is compressed when it is whole, beside whatever else is
//! done, and is as usable at each moment as before: its manifest names the file that is there, and
//! changes at once.
//!
//! The process that compresses holds the lock [`LOCK`] of the machine's directory, with its pid and
//! progress in it. A restore ends it; a copy waits for it.

pub mod process;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hypeman_files::{AtPath, Lock, sync_directory};
use hypeman_record::format;
use hypeman_record::process::Process;
use jiff::Timestamp;
use rustix::process::Signal;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::manifest::{Algorithm, Compressed, Manifest, SavedFile};
use crate::sealed::{BLOCK, Sum};
use crate::standby::{self, MANIFEST, WHOLE};

/// Lock of the process that compresses.
pub const LOCK: &str = "compression.pid";

/// zstd's level: upstream's, which is quick.
const LEVEL: i32 = 1;

/// A file that takes less room than this is left as it is, in bytes.
const WORTH_IT: u64 = 64 * 1024;

/// Prefix of the reason when the compression has failed.
const FAILED: &str = "failed: ";

/// Progress of a compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Pid of its process.
    pub pid: u32,
    /// Number of bytes read so far.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

/// The compression that is under way in `directory`, if there is one.
#[must_use]
pub fn progress(directory: &Path) -> Option<Progress> {
    let path = directory.join(LOCK);
    hypeman_files::is_held(&path).ok().filter(|held| *held)?;
    let text = std::fs::read_to_string(path).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>).map_while(std::result::Result::ok);
    let pid = u32::try_from(numbers.next()?).ok()?;
    Some(Progress { pid, done: numbers.next()?, total: numbers.next()? })
}

/// Why the last compression in `directory` has failed, if it has, and that was after `taken`: of
/// this snapshot.
pub(crate) fn error(directory: &Path, taken: Timestamp) -> Option<String> {
    let path = directory.join(LOCK);
    let written = std::fs::metadata(&path).ok()?.modified().ok()?;
    Timestamp::try_from(written).ok().filter(|written| *written >= taken)?;
    let text = std::fs::read_to_string(path).ok()?;
    text.strip_prefix(FAILED).map(|reason| reason.trim().to_owned())
}

/// Ends a compression that is under way, and removes what is half-made of it. Nobody compresses as
/// long as the lock is kept.
///
/// # Errors
/// When it cannot be ended.
pub fn stop(directory: &Path) -> Result<Lock> {
    let path = directory.join(LOCK);
    // It holds the lock as long as it lives, so this is its pid and nobody else's.
    let process = progress(directory).and_then(|progress| Process::find(progress.pid));
    if let Some(process) = process.filter(|_| hypeman_files::is_held(&path).unwrap_or(false)) {
        process.signal(Signal::KILL).at(&path)?;
    }
    let lock = wait(directory)?;
    if let Ok(manifest) = standby::manifest(directory) {
        let whole = directory.join(WHOLE);
        for file in hypeman_files::entries(&whole)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != MANIFEST && manifest.files.iter().all(|saved| saved.file() != name) {
                std::fs::remove_file(&file).at(&file)?;
            }
        }
    }
    Ok(lock)
}

/// Waits for the end of a compression that is under way. Nobody compresses as long as the lock is
/// kept.
///
/// # Errors
/// When the directory cannot be written.
pub fn wait(directory: &Path) -> Result<Lock> {
    Ok(Lock::acquire(&directory.join(LOCK))?)
}

/// Makes the whole snapshot in `directory` as it was before it was compressed. Nobody compresses it
/// meanwhile.
///
/// # Errors
/// When it is damaged, or the disk is full; it is compressed then as before.
pub fn expand(directory: &Path) -> Result<()> {
    let whole = directory.join(WHOLE);
    let mut manifest = standby::manifest(directory)?;
    for index in 0..manifest.files.len() {
        let saved = manifest.files[index].clone();
        if let Some(Compressed { algorithm, .. }) = saved.compressed {
            unsqueeze(&whole, &saved, algorithm)?;
            replace(&whole, &mut manifest, index, SavedFile { compressed: None, ..saved })?;
        }
    }
    Ok(())
}

/// Puts another form of a file in the place of the one that there is: from the manifest's change on
/// it is that one.
fn replace(whole: &Path, manifest: &mut Manifest, index: usize, new: SavedFile) -> Result<()> {
    let old = std::mem::replace(&mut manifest.files[index], new);
    format::rewrite(&whole.join(MANIFEST), manifest)?;
    let _ = std::fs::remove_file(whole.join(old.file())); // of no use, and goes with the snapshot
    Ok(())
}

/// Writes the compressed form of a file beside it, whole and synced.
fn squeeze(
    whole: &Path,
    saved: &SavedFile,
    algorithm: Algorithm,
    told: &dyn Fn(u64) -> Result<()>,
) -> Result<Compressed> {
    let path = whole.join(&saved.name);
    let target = whole.join(format!("{}.{}", saved.name, algorithm.ending()));
    let mut from = File::open(&path).at(&path)?;
    let to = File::create(&target).at(&target)?;
    let written = match algorithm {
        Algorithm::Zstd => {
            zstd::Encoder::new(&to, LEVEL).at(&target).map_err(Error::from).and_then(|mut encoder| {
                copy(&mut from, &mut encoder, &path, told)?;
                Ok(encoder.finish().map(drop).at(&target)?)
            })
        }
        Algorithm::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(&to);
            copy(&mut from, &mut encoder, &path, told)
                .and_then(|_| Ok(encoder.finish().map(drop).map_err(std::io::Error::other).at(&target)?))
        }
    };
    let finished = written.and_then(|()| Ok(to.sync_all().and_then(|()| sync(whole)).at(&target)?));
    if let Err(error) = finished {
        let _ = std::fs::remove_file(&target); // the error that matters is the first one
        return Err(error);
    }
    Ok(Compressed { algorithm, size: to.metadata().at(&target)?.len() })
}

/// Writes a file as it was from its compressed form, synced, for that goes next, and makes sure
/// that it is what was saved.
fn unsqueeze(whole: &Path, saved: &SavedFile, algorithm: Algorithm) -> Result<()> {
    let (path, target) = (whole.join(saved.file()), whole.join(&saved.name));
    let damaged = || Error::Damaged(path.clone());
    let from = File::open(&path).at(&path)?;
    let mut to = File::create(&target).at(&target)?;
    let mut decoder: Box<dyn Read> = match algorithm {
        Algorithm::Zstd => Box::new(zstd::Decoder::new(from).at(&path)?),
        Algorithm::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(from)),
    };
    let mut sum = Sum::default();
    let mut block = vec![0; BLOCK];
    let expanded = loop {
        match decoder.read(&mut block) {
            Ok(0) if sum.is(saved) => break to.sync_all().at(&target).map_err(Error::from),
            Ok(0) => break Err(damaged()),
            Ok(length) => {
                sum.add(&block[..length]);
                if let Err(error) = to.write_all(&block[..length]).at(&target) {
                    break Err(error.into());
                }
            }
            Err(_) => break Err(damaged()),
        }
    };
    if expanded.is_err() {
        let _ = std::fs::remove_file(&target); // the error that matters is the first one
    }
    expanded
}

fn copy(from: &mut File, to: &mut dyn Write, path: &Path, told: &dyn Fn(u64) -> Result<()>) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut read = 0;
    loop {
        match from.read(&mut block).at(path)? {
            0 => return Ok(()),
            length => {
                to.write_all(&block[..length]).at(path)?;
                read += length as u64;
                told(read)?;
            }
        }
    }
}

fn sync(directory: &Path) -> std::io::Result<()> {
    sync_directory(directory).map_err(std::io::Error::other)
}

/// Progress in one line.
fn tell(lock: &Lock, done: u64, total: u64) -> Result<()> {
    write(lock, &format!("{}\n{done} {total}\n", std::process::id()))
}

fn write(lock: &Lock, text: &str) -> Result<()> {
    let written = lock.file().write_all_at(text.as_bytes(), 0);
    Ok(written.and_then(|()| lock.file().set_len(text.len() as u64)).at(Path::new(LOCK))?)
}

#[cfg(test)]
mod tests;
