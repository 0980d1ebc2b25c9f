use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;

fn whole(path: &Path) -> Vec<u8> {
    chain::files(path).unwrap().iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}

fn line(number: u32) -> Vec<u8> {
    format!("line {number}\n").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_hold_the_end_of_what_was_written_within_their_limits(
        chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), 0..40),
        max_size in 1_u64..300,
        max_files in 0_u32..5,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let limits = Limits { max_size, max_files };
        let mut log = Log::open(&path, limits).unwrap();
        for chunk in &chunks {
            log.append(chunk).unwrap();
            let sizes: Vec<u64> = chain::files(&path).unwrap().iter().map(|f| f.metadata().unwrap().len()).collect();
            prop_assert!(sizes.iter().all(|&size| size <= max_size), "{sizes:?}");
            prop_assert!(sizes.len() <= max_files as usize + 1, "{sizes:?}");
        }
        let input = chunks.concat();
        let kept = whole(&path);
        prop_assert!(input.ends_with(&kept));
        let files = chain::files(&path).unwrap().len();
        let rotations = usize::try_from(log.take_rotations()).unwrap();
        if files <= max_files as usize {
            prop_assert_eq!(rotations, files - 1);
            prop_assert_eq!(&kept, &input, "nothing is dropped before the limits ask for it");
        }
        prop_assert!(rotations + 1 >= files && log.take_rotations() == 0);
        if place::find(&log.file).is_some() {
            prop_assert_eq!(written(&path), Some(input.len() as u64), "whatever was dropped");
        }
    }
}

#[test]
fn a_line_that_fits_into_a_file_is_not_split() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut log = Log::open(&path, Limits { max_size: 20, max_files: 100 }).unwrap();
    log.append(&(0..50).flat_map(line).collect::<Vec<u8>>()).unwrap();
    for file in chain::files(&path).unwrap() {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.starts_with("line ") && text.ends_with('\n'), "{text:?}");
    }
}

#[test]
fn a_truncation_by_someone_else_leaves_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut log = Log::open(&path, Limits { max_size: 1 << 20, max_files: 1 }).unwrap();
    log.append(&vec![b'x'; 100_000]).unwrap();
    OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    log.append(b"after\n").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"after\n");
    let metadata = path.metadata().unwrap();
    assert!(metadata.blocks() * 512 >= metadata.len());
}

#[test]
fn a_file_renamed_or_deleted_by_someone_else_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut log = Log::open(&path, Limits { max_size: 1 << 20, max_files: 1 }).unwrap();
    log.append(b"one\n").unwrap();
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    log.append(b"two\n").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
    std::fs::remove_file(&path).unwrap();
    log.append(b"three\n").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
    assert_eq!(std::fs::read(dir.path().join("elsewhere")).unwrap(), b"one\n");
}

/// A rotation is a row of renames; killed after any of them, the next one must lose nothing that
/// the limits keep.
#[test]
fn a_rotation_killed_between_any_two_renames_is_gone_on_with() {
    for done in 0..=3 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let limits = Limits { max_size: 7, max_files: 3 };
        let mut log = Log::open(&path, limits).unwrap();
        (0..3).for_each(|number| log.append(&line(number)).unwrap());
        // The rotation of app.log, .1 and .2, up to `done` renames.
        for number in (0..=2).rev().take(done) {
            let _ = std::fs::rename(chain::rotated(&path, number), chain::rotated(&path, number + 1));
        }
        let mut log = Log::open(&path, limits).unwrap();
        log.append(&line(3)).unwrap();
        assert_eq!(whole(&path), (0..4).flat_map(line).collect::<Vec<u8>>(), "killed after {done} renames");
    }
}

#[test]
fn smaller_limits_drop_what_larger_ones_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut log = Log::open(&path, Limits { max_size: 7, max_files: 5 }).unwrap();
    (0..6).for_each(|number| log.append(&line(number)).unwrap());
    let mut log = Log::open(&path, Limits { max_size: 7, max_files: 1 }).unwrap();
    (6..8).for_each(|number| log.append(&line(number)).unwrap());
    assert_eq!(whole(&path), [line(6), line(7)].concat());
}
