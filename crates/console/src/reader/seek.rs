//! Where a reader begins: so many lines from the end, at a time, or where another was.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::{Current, Cursor, Reader};
use crate::place;
use crate::times::Times;

/// The longest tick of a kernel's clock.
const TICK: Duration = Duration::from_millis(10);

impl Reader {
    /// Goes to where the last `lines` lines begin.
    pub(super) fn seek_lines(&mut self, lines: usize) -> std::io::Result<()> {
        let mut files = self.files()?;
        let sizes = files.iter().map(|current| Ok(current.file.metadata()?.len()));
        let size = sizes.sum::<std::io::Result<u64>>()?;
        if lines as u64 >= size && !files.is_empty() {
            self.current = Some(files.swap_remove(0)); // each line has a byte: it is all of them
            return Ok(());
        }
        // Newlines that belong to the lines wanted: the one at the very end closes the last line.
        let mut wanted = lines;
        let mut at_end = true;
        while let Some(mut current) = files.pop() {
            let start = line_start(&current.file, &mut wanted, &mut at_end)?;
            if start.is_some() || files.is_empty() {
                current.offset = start.unwrap_or(0);
                self.current = Some(current);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Passes over what was written before `since`. What has no times is passed over with its file,
    /// if that was last written before.
    pub(super) fn skip_before(&mut self, since: SystemTime) -> std::io::Result<()> {
        let mut files = self.files()?;
        if let Some(begin) = self.current.take() {
            files.retain(|file| !begin.older.contains(&file.identity) && file.identity != begin.identity);
            files.insert(0, begin);
        }
        let count = files.len();
        for (index, mut current) in files.into_iter().enumerate() {
            let metadata = current.file.metadata()?;
            let times = Times::of(&self.path, current.identity);
            let first = match times.first_since(since) {
                Some(first) => Some(first),
                None if times.are_known() => None,
                // A file system's clock may be a tick behind.
                None if metadata.modified()? + TICK < since => None,
                None => Some(0),
            };
            if first.is_some() || index + 1 == count {
                current.offset = current.offset.max(first.unwrap_or(metadata.len()));
                self.current = Some(current);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes to where `cursor` was left, or to what is kept of what comes after it.
    pub(super) fn seek_cursor(&mut self, cursor: &Cursor) -> std::io::Result<()> {
        let mut files = self.files()?;
        if let Some(at) = files.iter().position(|file| file.identity == cursor.file) {
            let mut current = files.swap_remove(at);
            current.offset = cursor.offset;
            current.start = cursor.start; // if it has another now, it was truncated
            self.current = Some(current);
            return Ok(());
        }
        let Some(position) = self.next else { return Ok(()) };
        for mut current in files {
            let start = place::find(&current.file).unwrap_or(0);
            let length = current.file.metadata()?.len();
            if start.saturating_add(length) > position {
                current.offset = position.saturating_sub(start);
                self.current = Some(current);
                return Ok(());
            }
            self.current = Some(Current { offset: length, ..current });
        }
        Ok(())
    }

    /// All files of the log, the oldest first.
    fn files(&self) -> std::io::Result<Vec<Current>> {
        let mut done = Vec::new();
        let mut files = Vec::new();
        while let Some(next) = self.next_file(&done)? {
            done.push(next.identity);
            files.push(next);
        }
        Ok(files)
    }
}

/// Goes back from the end of `file` to where the last lines begin. When it has fewer, `wanted`
/// tells how many are still to be found in older files.
fn line_start(file: &File, wanted: &mut usize, at_end: &mut bool) -> std::io::Result<Option<u64>> {
    let mut buffer = vec![0; 64 * 1024];
    let mut position = file.metadata()?.len();
    if *wanted == 0 {
        return Ok(Some(position));
    }
    while position > 0 {
        let length = position.min(buffer.len() as u64);
        position -= length;
        // At most the buffer's size.
        let block = &mut buffer[..length as usize];
        file.read_exact_at(block, position)?;
        for index in memchr::memrchr_iter(b'\n', block) {
            if !std::mem::take(at_end) || index + 1 != block.len() {
                *wanted -= 1;
                if *wanted == 0 {
                    return Ok(Some(position + index as u64 + 1));
                }
            }
        }
        *at_end = false;
    }
    Ok(None)
}
