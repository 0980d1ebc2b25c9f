use std::os::unix::fs::FileExt;

use hypeman_record::spec::Disk;

use super::*;

/// An instance with a disk, and a snapshot of it that is whole.
pub(crate) fn asleep() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    std::fs::write(directory.join("disk"), "data").unwrap();
    begin(directory).unwrap();
    std::fs::write(directory.join(NEW).join("memory"), vec![7; 3 << 20]).unwrap();
    seal(directory, &launch(), None).unwrap();
    assert!(!is_whole(directory) && is_begun(directory));
    publish(directory).unwrap();
    assert!(is_whole(directory) && !is_begun(directory));
    scratch
}

fn launch() -> Launch {
    let old =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/testdata/before-formats/ended/launch.json");
    let mut launch: Launch = format::read(&old).unwrap().expect("an order");
    let disk = Disk { path: "disk".into(), serial: "d".into(), read_only: false, rate_limit: None };
    launch.spec.disks = vec![disk];
    launch
}

#[test]
fn a_whole_snapshot_can_be_used_once() {
    let scratch = asleep();
    let directory = scratch.path();
    let manifest = manifest(directory).unwrap();
    assert_eq!((manifest.size(), &manifest.launch), (3 << 20, &launch()));
    look(directory, &manifest).unwrap();
    verify(directory).unwrap();
    consume(directory).unwrap();
    assert!(!is_whole(directory) && is_used(directory));
    forget(directory).unwrap();
    assert!(!is_used(directory) && !put_back(directory).unwrap());
}

#[test]
fn what_is_missing_or_damaged_is_found_and_named() {
    let scratch = asleep();
    let (directory, memory) = (scratch.path(), scratch.path().join(WHOLE).join("memory"));
    let manifest = manifest(directory).unwrap();
    let file = File::options().write(true).open(&memory).unwrap();
    file.write_all_at(&[8], 2 << 20).unwrap();
    look(directory, &manifest).unwrap(); // its size is right
    assert!(matches!(verify(directory), Err(Error::Damaged(path)) if path == memory));
    file.set_len(1).unwrap();
    assert!(matches!(look(directory, &manifest), Err(Error::Damaged(path)) if path == memory));
    std::fs::remove_file(&memory).unwrap();
    assert!(matches!(look(directory, &manifest), Err(Error::Missing(path)) if path == memory));
}

#[test]
fn a_disk_that_was_changed_since_does_not_fit() {
    let scratch = asleep();
    let directory = scratch.path();
    let manifest = manifest(directory).unwrap();
    consume(directory).unwrap();
    assert!(put_back(directory).unwrap(), "nobody has run: it is whole again");
    std::fs::write(directory.join("disk"), "else").unwrap();
    assert!(matches!(look(directory, &manifest), Err(Error::DiskChanged(_))));
    consume(directory).unwrap();
    assert!(!put_back(directory).unwrap(), "the guest may have run");
}

#[test]
fn what_is_given_up_is_gone_at_whatever_stage_it_was() {
    for stage in 0..4 {
        let scratch = asleep();
        let directory = scratch.path();
        if stage > 0 {
            begin(directory).unwrap();
        }
        if stage > 1 {
            consume(directory).unwrap();
        }
        if stage > 2 {
            seal(directory, &launch(), None).unwrap();
        }
        withdraw(directory).unwrap();
        assert!(!is_whole(directory) && !is_begun(directory) && !is_used(directory), "stage {stage}");
    }
}
