//! When what is in a log was written. The log itself is nothing but the bytes that came, so the
//! times are aside, in `.times` beside it: one file for each file of the log, found by that one's
//! identity, which no rotation changes.
//!
//! A record is the offset of bytes that are about to be written, and the time. A reader that finds
//! bytes finds their record too. Two records of one offset say that a line begins there, though the
//! one before may have no end: a boot's first line. Losing a file of times, or a part of it, loses
//! times and nothing else.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::chain::{self, Identity};

/// Offset and time, each of eight bytes.
const RECORD: usize = 16;

/// The format, and the identity of the log's file.
const HEADER: usize = 48;

const FORMAT: &[u8; 16] = b"hypeman times 1\n";

/// Largest number of records of one file, which then has 1 MiB.
const RECORDS: usize = 1 << 16;

/// Minimum distance of two entries in time; larger for a file of a long time.
pub(crate) const SPACING: Duration = Duration::from_millis(10);

/// Bytes from `offset` on, to the next record's, were written at `time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    offset: u64,
    time: SystemTime,
}

impl Record {
    fn bytes(self) -> [u8; RECORD] {
        let nanoseconds = self.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&u64::try_from(nanoseconds).unwrap_or(u64::MAX).to_le_bytes());
        bytes
    }

    fn all(bytes: &[u8]) -> impl Iterator<Item = Record> {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        bytes.chunks_exact(RECORD).map(move |record| Record {
            offset: number(&record[..8]),
            time: UNIX_EPOCH + Duration::from_nanos(number(&record[8..])),
        })
    }
}

/// Where the times of the files of the log at `path` are.
fn directory(path: &Path) -> PathBuf {
    path.with_file_name(".times")
}

/// Where the times of one file of the log at `path` are.
fn file_of(path: &Path, identity: Identity) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", identity.inode()));
    directory(path).join(name)
}

fn header(identity: Identity) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..FORMAT.len()].copy_from_slice(FORMAT);
    header[FORMAT.len()..].copy_from_slice(&identity.bytes());
    header
}

/// Writes the times of a log's current file. What goes wrong with it goes wrong with the times
/// alone.
#[derive(Debug)]
pub(crate) struct TimesWriter {
    file: Option<File>,
    records: usize,
    last: Option<Record>,
    spacing: Duration,
    /// Whether a line begins with what is written next.
    begins_line: bool,
}

impl TimesWriter {
    /// Goes on with the times of the file of that identity, or begins them, and removes those of
    /// files that are gone.
    pub(crate) fn open(path: &Path, identity: Identity) -> TimesWriter {
        let _ = std::fs::create_dir(directory(path));
        sweep(path, identity);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file_of(path, identity))
            .ok();
        let mut writer = TimesWriter { file, records: 0, last: None, spacing: SPACING, begins_line: false };
        if !writer.go_on(identity) {
            writer.begin(identity);
        }
        writer
    }

    /// Takes the records that are there; whether they are of the same file.
    fn go_on(&mut self, identity: Identity) -> bool {
        let Some(bytes) = self.file.as_mut().and_then(|file| contents(file, identity)) else { return false };
        let records: Vec<Record> = Record::all(&bytes).collect();
        self.records = records.len();
        self.last = records.last().copied();
        self.space(records.first().copied());
        true
    }

    fn begin(&mut self, identity: Identity) {
        let Some(file) = &self.file else { return };
        if file.set_len(0).and_then(|()| file.write_all_at(&header(identity), 0)).is_err() {
            self.file = None;
        }
        (self.records, self.last, self.spacing) = (0, None, SPACING);
    }

    /// Has a line begin with what is written next.
    pub(crate) fn begin_line(&mut self) {
        self.begins_line = true;
    }

    /// Notes that bytes are about to be written at `offset`.
    pub(crate) fn note(&mut self, offset: u64) {
        self.note_at(Record { offset, time: SystemTime::now() });
    }

    fn note_at(&mut self, record: Record) {
        match self.last {
            // An attempt that the disk refused.
            Some(last) if last.offset == record.offset => self.records -= 1, // what it says of a line stays
            // The log was truncated: what comes is at its beginning again.
            Some(last) if last.offset > record.offset => self.forget(),
            Some(last)
                if !self.begins_line
                    && record.time.duration_since(last.time).is_ok_and(|since| since < self.spacing) =>
            {
                return;
            }
            _ => {}
        }
        if self.records >= RECORDS {
            self.thin_out();
        }
        let Some(file) = &self.file else { return };
        let position = (HEADER + self.records * RECORD) as u64;
        let count = if self.begins_line { 2 } else { 1 };
        if file.write_all_at(&record.bytes().repeat(count), position).is_ok() {
            self.records += count;
            self.last = Some(record);
            self.begins_line = false;
        }
    }

    fn forget(&mut self) {
        (self.records, self.last, self.spacing) = (0, None, SPACING);
        if let Some(file) = &self.file {
            let _ = file.set_len(HEADER as u64);
        }
    }

    /// So much time lies between two records that all the time of the file takes half of them.
    fn space(&mut self, first: Option<Record>) {
        let all = first.zip(self.last).and_then(|(first, last)| last.time.duration_since(first.time).ok());
        self.spacing = SPACING.max(all.unwrap_or_default() * 2 / RECORDS as u32);
    }

    /// Keeps every second record, and takes as few from now on. Where lines begin is not told any
    /// more.
    fn thin_out(&mut self) {
        let Some(file) = &self.file else { return };
        let mut bytes = vec![0; self.records * RECORD];
        if file.read_exact_at(&mut bytes, HEADER as u64).is_err() {
            return self.forget();
        }
        let kept: Vec<u8> = bytes.chunks_exact(2 * RECORD).flat_map(|two| &two[..RECORD]).copied().collect();
        self.records = kept.len() / RECORD;
        // A reader that looks in between sees times that go back, and asks no further.
        let end = (HEADER + kept.len()) as u64;
        if file.write_all_at(&kept, HEADER as u64).and_then(|()| file.set_len(end)).is_err() {
            return self.forget();
        }
        self.space(Record::all(&kept).next());
    }
}

/// Removes the times of files that are none of the log's any more.
fn sweep(path: &Path, current: Identity) {
    let Ok(files) = chain::files(path) else { return };
    let kept: Vec<PathBuf> = files
        .iter()
        .filter_map(|file| Identity::at(file))
        .chain([current])
        .map(|identity| file_of(path, identity))
        .collect();
    let mut prefix = path.file_name().unwrap_or_default().as_encoded_bytes().to_owned();
    prefix.push(b'.');
    for entry in std::fs::read_dir(directory(path)).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(&prefix);
        if is_ours && !kept.contains(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The records of a file of times, if it is of the log's file of that identity.
fn contents(file: &mut File, identity: Identity) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = (HEADER + RECORDS * RECORD) as u64;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    (bytes.get(..HEADER)? == header(identity)).then(|| bytes.split_off(HEADER))
}

/// The times of one file of a log, for its reader.
#[derive(Debug)]
pub(crate) struct Times {
    identity: Option<Identity>,
    file: Option<File>,
    /// In the order of both offset and time.
    records: Vec<Record>,
}

impl Times {
    /// None.
    pub(crate) fn none() -> Times {
        Times { identity: None, file: None, records: Vec::new() }
    }

    /// Those of the file of that identity of the log at `path`; none when they are lost.
    pub(crate) fn of(path: &Path, identity: Identity) -> Times {
        let mut file = File::open(file_of(path, identity)).ok();
        let bytes = file.as_mut().and_then(|file| contents(file, identity)).unwrap_or_default();
        let mut times = Times { identity: Some(identity), file, records: Vec::new() };
        times.add(&bytes);
        times
    }

    /// When the byte at `offset` of that file was written. It was read after its record was
    /// written.
    pub(crate) fn at(&mut self, path: &Path, identity: Identity, offset: u64) -> Option<SystemTime> {
        let covers = |times: &Times| times.records.last().is_some_and(|last| last.offset > offset);
        if self.identity != Some(identity) || !covers(self) && !self.refresh() {
            *self = Times::of(path, identity);
        }
        let after = self.records.partition_point(|record| record.offset <= offset);
        self.records.get(after.checked_sub(1)?).map(|record| record.time)
    }

    /// Where a line begins, of those bytes of that file, though the one before may have no end.
    pub(crate) fn line_begins(&mut self, path: &Path, identity: Identity, bytes: Range<u64>) -> Option<u64> {
        self.at(path, identity, bytes.end.saturating_sub(1))?;
        let first = self.records.partition_point(|record| record.offset < bytes.start);
        let mut within = self.records[first..].windows(2).take_while(|two| two[0].offset < bytes.end);
        within.find(|two| two[0].offset == two[1].offset).map(|two| two[0].offset)
    }

    /// Where what was written then or later begins; `None` when nothing is known to have been.
    pub(crate) fn first_since(&self, since: SystemTime) -> Option<u64> {
        self.records.iter().find(|record| record.time >= since).map(|record| record.offset)
    }

    /// Whether there are any.
    pub(crate) fn are_known(&self) -> bool {
        !self.records.is_empty()
    }

    /// Takes the records that have come; `false` when those that it has are not those of the file
    /// any more.
    fn refresh(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        let known = (HEADER + self.records.len() * RECORD) as u64;
        let Ok(length) = file.metadata().map(|metadata| metadata.len()) else { return false };
        let Some(more) = length.checked_sub(known) else { return false };
        let mut bytes = vec![0; usize::try_from(more).unwrap_or(0)];
        file.read_exact_at(&mut bytes, known).is_ok() && self.add(&bytes)
    }

    /// Adds records as far as they are in order; whether all are.
    fn add(&mut self, bytes: &[u8]) -> bool {
        for record in Record::all(bytes) {
            if self.records.last().is_some_and(|last| last.offset > record.offset) {
                return false;
            }
            self.records.push(record);
        }
        true
    }
}

#[cfg(test)]
mod tests;
