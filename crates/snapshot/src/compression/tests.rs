use std::collections::BTreeSet;

use hypeman_record::names;

use super::process::compress;
use super::*;
use crate::standby::tests::asleep;
use crate::summary::{CompressionState, Summary};

fn files(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory.join(WHOLE)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_was_compressed_is_smaller_and_comes_back_as_it_was() {
    for (algorithm, ending) in [(Algorithm::Zstd, "zst"), (Algorithm::Lz4, "lz4")] {
        let scratch = asleep();
        let directory = scratch.path();
        let before = std::fs::read(directory.join(WHOLE).join("memory")).unwrap();
        compress(directory, algorithm).unwrap();
        compress(directory, algorithm).unwrap(); // nothing is left to do
        assert_eq!(files(directory), [format!("memory.{ending}"), MANIFEST.to_owned()].into());
        let told = Summary::of(directory).unwrap();
        assert_eq!(
            (told.compression, told.compression_state),
            (Some(algorithm), CompressionState::Compressed)
        );
        assert!(told.compressed_size_bytes.unwrap() < told.uncompressed_size_bytes / 10);
        standby::look(directory, &standby::manifest(directory).unwrap()).unwrap();
        expand(directory).unwrap();
        assert_eq!(files(directory), ["memory".to_owned(), MANIFEST.to_owned()].into());
        assert_eq!(std::fs::read(directory.join(WHOLE).join("memory")).unwrap(), before);
        standby::verify(directory).unwrap();
    }
}

#[test]
fn damage_is_found_and_changes_nothing() {
    for algorithm in [Algorithm::Zstd, Algorithm::Lz4] {
        let scratch = asleep();
        let directory = scratch.path();
        compress(directory, algorithm).unwrap();
        let path = directory.join(WHOLE).join(format!("memory.{}", algorithm.ending()));
        let good = std::fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, bad).unwrap();
            let error = expand(directory).unwrap_err();
            assert!(
                matches!(&error, Error::Damaged(damaged) if *damaged == path),
                "{algorithm:?} {at}: {error}"
            );
            assert_eq!(files(directory).len(), 2, "nothing half-made is left");
        }
        std::fs::write(&path, good).unwrap();
        expand(directory).unwrap();
    }
}

#[test]
fn one_that_was_stopped_leaves_the_snapshot_as_it_was() {
    let scratch = asleep();
    let directory = scratch.path();
    std::fs::write(directory.join(WHOLE).join("memory.zst"), "half").unwrap();
    stop(directory).unwrap();
    assert_eq!(files(directory), ["memory".to_owned(), MANIFEST.to_owned()].into());
    standby::verify(directory).unwrap();
}

#[test]
fn a_compression_that_begins_after_a_restore_has_begun_changes_nothing() {
    let scratch = asleep();
    let directory = scratch.path();
    let before = files(directory);
    let restoring = Lock::acquire(&directory.join(names::SHIM_PID)).unwrap();
    compress(directory, Algorithm::Lz4).unwrap();
    assert_eq!(files(directory), before);
    drop(restoring);
    compress(directory, Algorithm::Lz4).unwrap();
    assert_ne!(files(directory), before);
}
