use super::*;
use crate::log::{Limits, Log};

fn line(number: usize) -> Vec<u8> {
    format!("line {number}\n").into_bytes()
}

fn lines(range: std::ops::Range<usize>) -> Vec<u8> {
    range.flat_map(line).collect()
}

fn read(follower: &mut Follower) -> Vec<u8> {
    let mut bytes = Vec::new();
    follower.read_available(&mut bytes).unwrap();
    bytes
}

fn bed(max_size: u64, max_files: u32) -> (tempfile::TempDir, PathBuf, Log) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let log = Log::open(&path, Limits { max_size, max_files }).unwrap();
    (dir, path, log)
}

#[test]
fn a_follower_sees_each_byte_once_through_two_hundred_rotations() {
    // Several rotations between two looks, but never more than the files that are kept.
    for rotations_between_looks in [1, 2, 3] {
        let (_dir, path, mut log) = bed(40, 4);
        let mut follower = Follower::open(&path, Start::Beginning).unwrap();
        let mut seen = Vec::new();
        for number in 0..1000 {
            log.append(&line(number)).unwrap();
            if number % (4 * rotations_between_looks) == 0 {
                seen.extend(read(&mut follower));
            }
        }
        seen.extend(read(&mut follower));
        assert_eq!(seen, lines(0..1000));
    }
}

#[test]
fn a_follower_that_was_left_behind_goes_on_with_the_oldest_that_is_kept() {
    let (_dir, path, mut log) = bed(40, 2);
    let mut follower = Follower::open(&path, Start::Beginning).unwrap();
    log.append(&line(0)).unwrap();
    assert_eq!(read(&mut follower), line(0));
    log.append(&lines(1..100)).unwrap();
    // The rest of the file that it held, though that has no name any more; and then what is kept.
    let seen = read(&mut follower);
    let kept: Vec<u8> =
        chain::files(&path).unwrap().iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(seen, [lines(1..5), kept].concat());
    // Where the file system can tell, so does the follower, once.
    let expected = if place_is_kept(&path) { (lines(1..100).len() - seen.len()) as u64 } else { 0 };
    assert_eq!((follower.take_missed(), follower.take_missed()), (expected, 0));
    log.append(&line(100)).unwrap();
    assert_eq!((read(&mut follower), follower.take_missed()), (line(100), 0));
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
    let mut follower = Follower::open(&path, Start::Beginning).unwrap();
    log.append(&lines(0..100)).unwrap();
    assert_eq!(read(&mut follower), lines(0..100));
    std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    log.append(&line(100)).unwrap();
    assert_eq!(read(&mut follower), line(100));
}

#[test]
fn a_log_renamed_by_someone_else_is_followed_into_the_new_one() {
    let (dir, path, mut log) = bed(40, 3);
    log.append(&lines(0..10)).unwrap();
    let mut follower = Follower::open(&path, Start::Lines(1)).unwrap();
    assert_eq!(read(&mut follower), line(9));
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    assert_eq!(read(&mut follower), b"");
    log.append(&line(10)).unwrap();
    assert_eq!(read(&mut follower), line(10), "and nothing of the older ones");
}

#[test]
fn the_last_lines_are_found_across_files() {
    let (_dir, path, mut log) = bed(40, 100);
    log.append(&lines(0..50)).unwrap();
    for tail in [0, 1, 3, 7, 20, 49, 50, 51, 1000] {
        let mut follower = Follower::open(&path, Start::Lines(tail)).unwrap();
        assert_eq!(read(&mut follower), lines(50 - tail.min(50)..50), "{tail} lines");
        // And on from there.
        assert_eq!(read(&mut follower), b"");
    }
    log.append(b"no end").unwrap();
    let mut follower = Follower::open(&path, Start::Lines(2)).unwrap();
    assert_eq!(read(&mut follower), [&line(49)[..], b"no end"].concat());
}

#[test]
fn a_log_that_comes_later_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut follower = Follower::open(&path, Start::Lines(3)).unwrap();
    assert_eq!(read(&mut follower), b"");
    std::fs::write(&path, "hello").unwrap();
    assert_eq!(read(&mut follower), b"hello");
}
