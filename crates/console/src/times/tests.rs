use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn bed() -> (tempfile::TempDir, PathBuf, Identity) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    std::fs::write(&path, "").unwrap();
    let identity = Identity::at(&path).unwrap();
    (dir, path, identity)
}

fn note(writer: &mut TimesWriter, offset: u64, seconds: u64) {
    writer.note_at(Record { offset, time: at(seconds) });
}

#[test]
fn a_byte_has_the_time_of_the_write_that_brought_it_also_for_a_reader_that_was_there_before() {
    let (_dir, path, identity) = bed();
    let mut times = Times::of(&path, identity);
    assert_eq!((times.at(&path, identity, 0), times.first_since(at(0))), (None, None));
    let mut writer = TimesWriter::open(&path, identity);
    note(&mut writer, 0, 100);
    note(&mut writer, 50, 200);
    assert_eq!(times.at(&path, identity, 0), Some(at(100)));
    assert_eq!(times.at(&path, identity, 49), Some(at(100)));
    assert_eq!(times.at(&path, identity, 50), Some(at(200)));
    note(&mut writer, 70, 300);
    assert_eq!(times.at(&path, identity, 80), Some(at(300)));
    assert_eq!(times.first_since(at(101)), Some(50));
    assert_eq!(times.first_since(at(301)), None);
}

#[test]
fn a_write_that_is_tried_again_has_the_time_at_which_it_was_done() {
    let (_dir, path, identity) = bed();
    let mut writer = TimesWriter::open(&path, identity);
    note(&mut writer, 0, 100);
    note(&mut writer, 10, 200);
    note(&mut writer, 10, 300);
    let mut times = Times::of(&path, identity);
    assert_eq!(times.records.len(), 2);
    assert_eq!(times.at(&path, identity, 10), Some(at(300)));
}

#[test]
fn another_process_goes_on_with_the_times_of_the_same_file_and_of_no_other() {
    let (dir, path, identity) = bed();
    note(&mut TimesWriter::open(&path, identity), 0, 100);
    note(&mut TimesWriter::open(&path, identity), 10, 200);
    assert_eq!(Times::of(&path, identity).records.len(), 2);
    // Renamed, it keeps them, and the new file has none.
    std::fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    std::fs::write(&path, "").unwrap();
    let next = Identity::at(&path).unwrap();
    note(&mut TimesWriter::open(&path, next), 0, 300);
    assert_eq!(Times::of(&path, identity).first_since(at(150)), Some(10));
    assert_eq!(Times::of(&path, next).first_since(at(150)), Some(0));
    // Rotated away, they are too.
    std::fs::remove_file(dir.path().join("app.log.1")).unwrap();
    let _ = TimesWriter::open(&path, next);
    assert_eq!(std::fs::read_dir(directory(&path)).unwrap().count(), 1);
}

#[test]
fn a_truncated_log_has_the_times_of_what_came_after() {
    let (_dir, path, identity) = bed();
    let mut writer = TimesWriter::open(&path, identity);
    note(&mut writer, 0, 100);
    note(&mut writer, 1000, 200);
    note(&mut writer, 0, 300);
    note(&mut writer, 2000, 400);
    let mut times = Times::of(&path, identity);
    assert_eq!(times.at(&path, identity, 10), Some(at(300)));
    assert_eq!(times.at(&path, identity, 2000), Some(at(400)));
}

#[test]
fn times_are_bounded_and_grow_coarser() {
    let (_dir, path, identity) = bed();
    let mut writer = TimesWriter::open(&path, identity);
    let mut times = Times::of(&path, identity);
    for number in 0..300_000_u64 {
        note(&mut writer, number * 10, number);
        if number % 1000 == 0 {
            let _ = times.at(&path, identity, number * 10);
        }
    }
    let size = std::fs::metadata(file_of(&path, identity)).unwrap().len();
    assert!(size <= (HEADER + RECORDS * RECORD) as u64, "{size} bytes");
    for number in [0, 1, 1000, 123_456, 299_999] {
        let told = times.at(&path, identity, number * 10).unwrap();
        let late = at(number).duration_since(told).unwrap();
        assert!(late < Duration::from_secs(30), "{number}: {late:?}");
    }
}

#[test]
fn what_is_none_of_ours_is_no_times() {
    let (_dir, path, identity) = bed();
    std::fs::create_dir(directory(&path)).unwrap();
    for junk in [&b""[..], b"hypeman", &[0xff; 4096]] {
        std::fs::write(file_of(&path, identity), junk).unwrap();
        assert_eq!(Times::of(&path, identity).records, []);
        note(&mut TimesWriter::open(&path, identity), 0, 100);
        assert_eq!(Times::of(&path, identity).records.len(), 1, "it is begun anew");
    }
    // Cut within a record.
    let file = File::options().write(true).open(file_of(&path, identity)).unwrap();
    file.set_len((HEADER + RECORD / 2) as u64).unwrap();
    assert_eq!(Times::of(&path, identity).records, []);
}

#[test]
fn a_line_begins_where_a_boot_does_also_soon_after_a_write_and_after_one_that_was_refused() {
    let (_dir, path, identity) = bed();
    let mut writer = TimesWriter::open(&path, identity);
    note(&mut writer, 0, 100);
    writer.begin_line();
    note(&mut writer, 7, 100);
    note(&mut writer, 7, 100);
    note(&mut writer, 20, 200);
    let mut times = Times::of(&path, identity);
    assert_eq!(times.line_begins(&path, identity, 0..30), Some(7));
    assert_eq!(times.line_begins(&path, identity, 7..8), Some(7));
    assert_eq!(times.line_begins(&path, identity, 8..30), None);
    assert_eq!(times.line_begins(&path, identity, 0..7), None);
    assert_eq!(times.at(&path, identity, 7), Some(at(100)));
    assert_eq!(times.at(&path, identity, 6), Some(at(100)));
}
