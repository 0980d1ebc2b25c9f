use super::*;
use crate::log::{Limits, Log};

fn line(number: usize) -> Vec<u8> {
    format!("line {number}\n").into_bytes()
}

fn lines(range: std::ops::Range<usize>) -> Vec<u8> {
    range.flat_map(line).collect()
}

fn read(reader: &mut Reader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_available(&mut bytes).unwrap();
    bytes
}

fn last(lines: usize) -> Start {
    Start { lines: Some(lines), since: None }
}

fn bed(max_size: u64, max_files: u32) -> (tempfile::TempDir, PathBuf, Log) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let log = Log::open(&path, Limits { max_size, max_files }).unwrap();
    (dir, path, log)
}

#[test]
fn a_reader_sees_each_byte_once_through_two_hundred_rotations() {
    // Several rotations between two looks, but never more than the files that are kept.
    for rotations_between_looks in [1, 2, 3] {
        let (_dir, path, mut log) = bed(40, 4);
        let mut reader = Reader::open(&path, Start::default()).unwrap();
        let mut seen = Vec::new();
        for number in 0..1000 {
            log.append(&line(number)).unwrap();
            if number % (4 * rotations_between_looks) == 0 {
                seen.extend(read(&mut reader));
            }
        }
        seen.extend(read(&mut reader));
        assert_eq!(seen, lines(0..1000));
    }
}

#[test]
fn a_reader_that_was_left_behind_goes_on_with_the_oldest_that_is_kept() {
    let (_dir, path, mut log) = bed(40, 2);
    let mut reader = Reader::open(&path, Start::default()).unwrap();
    log.append(&line(0)).unwrap();
    assert_eq!(read(&mut reader), line(0));
    log.append(&lines(1..100)).unwrap();
    // The rest of the file that it held, though that has no name any more; and then what is kept.
    let seen = read(&mut reader);
    let kept: Vec<u8> =
        chain::files(&path).unwrap().iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(seen, [lines(1..5), kept].concat());
    // Where the file system can tell, so does the reader, once.
    let expected = if place_is_kept(&path) { (lines(1..100).len() - seen.len()) as u64 } else { 0 };
    assert_eq!((reader.take_missed(), reader.take_missed()), (expected, 0));
    log.append(&line(100)).unwrap();
    assert_eq!((read(&mut reader), reader.take_missed()), (line(100), 0));
}

/// Whether the file system has extended attributes; tells aloud when it has not.
fn place_is_kept(path: &Path) -> bool {
    let kept = crate::place::find(&File::open(path).unwrap()).is_some();
    if !kept {
        eprintln!(
            "SKIPPED: how much a reader has missed cannot be told on this file system, which has no user xattrs"
        );
    }
    kept
}

#[test]
fn a_truncated_log_is_read_from_its_new_beginning() {
    let (_dir, path, mut log) = bed(1 << 20, 2);
    let mut reader = Reader::open(&path, Start::default()).unwrap();
    log.append(&lines(0..100)).unwrap();
    assert_eq!(read(&mut reader), lines(0..100));
    std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    log.append(&line(100)).unwrap();
    assert_eq!(read(&mut reader), line(100));
}

#[test]
fn a_log_renamed_by_someone_else_is_followed_into_the_new_one() {
    let (dir, path, mut log) = bed(40, 3);
    log.append(&lines(0..10)).unwrap();
    let mut reader = Reader::open(&path, last(1)).unwrap();
    assert_eq!(read(&mut reader), line(9));
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    assert_eq!(read(&mut reader), b"");
    log.append(&line(10)).unwrap();
    assert_eq!(read(&mut reader), line(10), "and nothing of the older ones");
}

#[test]
fn the_last_lines_are_found_across_files() {
    let (_dir, path, mut log) = bed(40, 100);
    log.append(&lines(0..50)).unwrap();
    for tail in [0, 1, 3, 7, 20, 49, 50, 51, 1000] {
        let mut reader = Reader::open(&path, last(tail)).unwrap();
        assert_eq!(read(&mut reader), lines(50 - tail.min(50)..50), "{tail} lines");
        // And on from there.
        assert_eq!(read(&mut reader), b"");
    }
    log.append(b"no end").unwrap();
    let mut reader = Reader::open(&path, last(2)).unwrap();
    assert_eq!(read(&mut reader), [&line(49)[..], b"no end"].concat());
}

#[test]
fn a_log_that_comes_later_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut reader = Reader::open(&path, last(3)).unwrap();
    assert_eq!(read(&mut reader), b"");
    std::fs::write(&path, "hello").unwrap();
    assert_eq!(read(&mut reader), b"hello");
}

/// Does as logrotate's `copytruncate`.
fn copy_and_truncate(path: &Path) {
    for number in chain::numbers(path).unwrap() {
        std::fs::rename(chain::rotated(path, number), chain::rotated(path, number + 1)).unwrap();
    }
    std::fs::copy(path, chain::rotated(path, 1)).unwrap();
    std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
}

#[test]
fn what_a_copytruncate_took_before_it_was_read_is_read_from_the_copy_and_once() {
    for later in [1, 500] {
        let (_dir, path, mut log) = bed(4096, 9);
        let mut reader = Reader::open(&path, Start::default()).unwrap();
        log.append(&lines(0..100)).unwrap();
        let mut half = vec![0; 500];
        assert_eq!(reader.read(&mut half).unwrap(), 500);
        copy_and_truncate(&path);
        // Few lines, or more than there were, so that the file alone does not show that it was
        // truncated.
        log.append(&lines(100..100 + later)).unwrap();
        let seen = [half, read(&mut reader)].concat();
        assert_eq!(String::from_utf8(seen).unwrap(), String::from_utf8(lines(0..100 + later)).unwrap());
        // The copy is not taken for something new after the next rotation.
        log.append(&lines(1000..2000)).unwrap();
        assert_eq!((read(&mut reader), reader.take_missed()), (lines(1000..2000), 0));
    }
}

#[test]
fn what_a_truncation_destroyed_is_counted() {
    let (_dir, path, mut log) = bed(1 << 20, 2);
    let mut reader = Reader::open(&path, Start::default()).unwrap();
    log.append(&lines(0..10)).unwrap();
    let mut line = vec![0; 7];
    assert_eq!(reader.read(&mut line).unwrap(), 7);
    std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    log.append(&lines(10..100)).unwrap();
    assert_eq!(read(&mut reader), lines(10..100));
    let destroyed = if place_is_kept(&path) { lines(1..10).len() as u64 } else { 0 };
    assert_eq!(reader.take_missed(), destroyed);
}

#[test]
fn another_reader_goes_on_where_one_was_left() {
    let (_dir, path, mut log) = bed(64, 5);
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    for number in 0..500 {
        log.append(&line(number)).unwrap();
        let saved = cursor.map(|cursor| serde_json::from_str::<Cursor>(&cursor).unwrap());
        let mut reader = match saved {
            Some(cursor) => Reader::resume(&path, &cursor).unwrap(),
            None => Reader::open(&path, Start::default()).unwrap(),
        };
        let mut some = vec![0; number % 13];
        let count = reader.read(&mut some).unwrap();
        seen.extend_from_slice(&some[..count]);
        if number % 7 == 0 {
            seen.extend(read(&mut reader));
        }
        cursor = reader.cursor().map(|cursor| serde_json::to_string(&cursor).unwrap());
    }
    let mut reader = Reader::resume(&path, &serde_json::from_str(&cursor.unwrap()).unwrap()).unwrap();
    seen.extend(read(&mut reader));
    assert_eq!(seen, lines(0..500));
}

#[test]
fn a_cursor_of_what_is_gone_goes_on_with_the_oldest_that_is_kept_and_tells_what_is_missing() {
    let (_dir, path, mut log) = bed(64, 2);
    let mut reader = Reader::open(&path, Start::default()).unwrap();
    log.append(&line(0)).unwrap();
    assert_eq!(read(&mut reader), line(0));
    let cursor = reader.cursor().unwrap();
    drop(reader);
    log.append(&lines(1..100)).unwrap();
    let mut reader = Reader::resume(&path, &cursor).unwrap();
    let seen = read(&mut reader);
    assert!(lines(1..100).ends_with(&seen) && seen.len() > 64);
    let gone = if place_is_kept(&path) { (lines(1..100).len() - seen.len()) as u64 } else { 0 };
    assert_eq!(reader.take_missed(), gone);
}

#[test]
fn a_time_begins_with_the_first_line_written_then_or_later() {
    let (_dir, path, mut log) = bed(64, 9);
    log.append(&lines(0..30)).unwrap();
    // The next write has a record of its own: time moves on, whatever the clock's grain is.
    let written = SystemTime::now();
    while SystemTime::now().duration_since(written).is_ok_and(|since| since < crate::times::SPACING * 2) {
        std::thread::yield_now();
    }
    let since = SystemTime::now();
    log.append(&lines(30..60)).unwrap();
    let start = |lines, since| Reader::open(&path, Start { lines, since: Some(since) }).unwrap();
    let mut reader = start(None, since);
    let seen = read(&mut reader);
    assert_eq!(String::from_utf8(seen).unwrap(), String::from_utf8(lines(30..60)).unwrap());
    assert!(reader.time_of(0).unwrap() >= since);
    assert_eq!(read(&mut start(Some(3), since)), lines(57..60), "and the last three of them");
    assert_eq!(read(&mut start(Some(50), since)), lines(30..60), "and no more than there are");
    assert_eq!(read(&mut start(None, SystemTime::now())), b"", "nothing was written since");
    assert_eq!(read(&mut start(None, written - std::time::Duration::from_secs(60))), lines(0..60));
    // Without its times, a file is shown if it was last written since.
    std::fs::remove_dir_all(path.with_file_name(".times")).unwrap();
    assert!(read(&mut start(None, since)).ends_with(&lines(30..60)));
}
