//! Format and release of a record, by which older and newer releases know how to read it.
//!
//! The rules: a field that comes later has a default, so that older records can be read. A field
//! that this release does not know is kept when the record is written again, also within its parts
//! ([`rewrite`]). A change of a record's meaning raises its format, and a record of a higher format
//! than a release knows is refused and left as it is.

use std::path::Path;

use hypeman_files::AtPath;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::unknown::Unknown;

/// This release.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The format of all records that were written before records had one.
const FIRST: u32 = 1;

/// A record.
pub trait Versioned: DeserializeOwned {
    /// The format that this release writes, and the highest that it reads.
    const FORMAT: u32;

    /// Its format, release and unknown fields.
    fn envelope(&self) -> &Envelope;
}

/// Format, release and unknown fields of a record. It is the last field of its struct, flattened,
/// so that it takes what no other field has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The record's format.
    #[serde(default = "first")]
    pub format: u32,
    /// The release that has written it; absent in records of before there was a format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

fn first() -> u32 {
    FIRST
}

impl Envelope {
    /// Returns the envelope of a record that this release writes.
    #[must_use]
    pub fn of<T: Versioned>() -> Envelope {
        Envelope { format: T::FORMAT, release: Some(RELEASE.to_owned()), unknown: Map::new() }
    }

    /// Returns the envelope of a record that this release makes from others. Their unknown fields
    /// are kept; of two with the same name the first counts.
    #[must_use]
    pub fn from<T: Versioned>(others: &[&Envelope]) -> Envelope {
        let mut unknown = Map::new();
        for (name, value) in others.iter().flat_map(|other| &other.unknown) {
            unknown.entry(name).or_insert_with(|| value.clone());
        }
        Envelope { unknown, ..Envelope::of::<T>() }
    }
}

/// A record that cannot be used; it is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was written by a release whose records this one does not know.
    #[error(
        "{}: the record was written by hypeman {release} in format {format}, and this is hypeman {RELEASE}, which knows format \
         {known}; use that release or a newer one",
        path.display()
    )]
    Newer {
        /// The file.
        path: std::path::PathBuf,
        /// The release that has written it.
        release: String,
        /// Its format.
        format: u64,
        /// The highest format that this release reads.
        known: u32,
    },
    /// It cannot be read, or is no such record.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
}

impl Error {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Newer { .. } => Kind::Newer,
            Error::Files(error) => Kind::of_files(error),
        }
    }

    /// The record's file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::Newer { path, .. }
            | Error::Files(
                hypeman_files::Error::Io { path, .. } | hypeman_files::Error::Damaged { path, .. },
            ) => Some(path),
            Error::Files(hypeman_files::Error::TooLarge { .. }) => None,
        }
    }
}

/// Reads a record; `None` when there is none.
///
/// # Errors
/// [`Error`].
pub fn read<T: Versioned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(text) = hypeman_files::read_existing(path)? else { return Ok(None) };
    let record = serde_json::from_slice::<T>(&text);
    if record.as_ref().is_ok_and(|record| record.envelope().format <= T::FORMAT) {
        return Ok(record.ok());
    }
    // A newer release may write what reads as something else here, or as nothing.
    let damaged = |source| hypeman_files::Error::Damaged { path: path.to_owned(), source };
    let value: Value = serde_json::from_slice(&text).map_err(damaged)?;
    let format = value["format"].as_u64().unwrap_or(FIRST.into());
    if format > T::FORMAT.into() {
        let release = value["release"].as_str().unwrap_or("of an unknown release").to_owned();
        return Err(Error::Newer { path: path.to_owned(), release, format, known: T::FORMAT });
    }
    Ok(Some(record.map_err(damaged)?))
}

/// Writes a record again that is another now, with what a newer release has added to its parts; an
/// old one that cannot be read any more has nothing to keep.
///
/// # Errors
/// As [`write()`].
pub fn rewrite<T: Versioned + Serialize>(path: &Path, record: &T) -> hypeman_files::Result<()> {
    write_with(path, record, &[unknown::<T>(path).unwrap_or_default()])
}

/// Unknown fields within the parts of the record in a file; none when there is no file.
///
/// # Errors
/// When the file cannot be read, or holds no such record.
pub fn unknown<T: Versioned + Serialize>(path: &Path) -> Result<Unknown, Error> {
    let Some(text) = hypeman_files::read_existing(path)? else { return Ok(Unknown::default()) };
    let compare = || {
        let was: Value = serde_json::from_slice(&text)?;
        let known = serde_json::to_value(serde_json::from_value::<T>(was.clone())?)?;
        Ok(Unknown::between(&was, &known))
    };
    let damaged = |source| hypeman_files::Error::Damaged { path: path.to_owned(), source };
    Ok(compare().map_err(damaged)?)
}

/// Writes a record that comes of others, with what a newer release has added to their parts; the
/// first of two that have the same field counts.
///
/// # Errors
/// As [`write()`].
pub fn write_with<T: Versioned + Serialize>(
    path: &Path,
    record: &T,
    unknown: &[Unknown],
) -> hypeman_files::Result<()> {
    let mut value = serde_json::to_value(record).map_err(std::io::Error::from).at(path)?;
    unknown.iter().for_each(|unknown| unknown.put_into(&mut value));
    hypeman_files::write_json(path, &value)
}

/// Writes a record.
///
/// # Errors
/// When the disk is full or the directory gone; the old record is then untouched.
pub fn write<T: Versioned + Serialize>(path: &Path, record: &T) -> hypeman_files::Result<()> {
    write_with(path, record, &[])
}

/// As [`write()`], for a record that is of no use after a power cut, or is synced later ([`sync`]).
///
/// # Errors
/// As [`write()`].
pub fn write_unsynced<T: Versioned + Serialize>(path: &Path, record: &T) -> hypeman_files::Result<()> {
    let value = serde_json::to_value(record).map_err(std::io::Error::from).at(path)?;
    hypeman_files::write_json_unsynced(path, &value)
}

/// Makes a record survive a power cut.
///
/// # Errors
/// When it is not there, or the disk fails.
pub fn sync(path: &Path) -> hypeman_files::Result<()> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).at(path)?;
    hypeman_files::sync_directory(path.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests;
