use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;
use tar::Builder;

use super::*;
use crate::pack;

const NONE: Trust = Trust { owners: false, devices: false };

fn packed(path: &Path, name: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    pack(path, Path::new(name), false, &mut stream).unwrap();
    stream
}

#[test]
fn a_tree_arrives_as_it_was() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let source = from.path().join("tree");
    fs::create_dir_all(source.join("deep/closed")).unwrap();
    fs::write(source.join("deep/file"), "text").unwrap();
    fs::set_permissions(source.join("deep/file"), PermissionsExt::from_mode(0o4751)).unwrap();
    File::open(source.join("deep/file"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000))
        .unwrap();
    fs::write(source.join("deep/closed/inside"), vec![7; 300_000]).unwrap();
    fs::set_permissions(source.join("deep/closed"), PermissionsExt::from_mode(0o500)).unwrap();
    fs::hard_link(source.join("deep/file"), source.join("same")).unwrap();
    symlink("/leads/nowhere", source.join("link")).unwrap();
    let long = "x".repeat(200);
    fs::write(source.join(&long), "").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, source.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"in the middle", 1 << 29).unwrap();
    drop(sparse);
    std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();

    let mut stream = Vec::new();
    let left_out = pack(&source, Path::new("copy"), false, &mut stream).unwrap();
    assert_eq!((left_out.count, left_out.told().unwrap().contains("socket")), (1, true));
    assert!(stream.len() < 1 << 20, "holes are not sent: {}", stream.len());
    assert_eq!(unpack(&stream[..], to.path(), Path::new(""), NONE).unwrap(), LeftOut::default());
    let copy = to.path().join("copy");
    let file = copy.join("deep/file").metadata().unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o751, 1_000_000), "privileges are not given away");
    assert_eq!(copy.join("deep/closed").metadata().unwrap().mode() & 0o7777, 0o500);
    assert_eq!(fs::read(copy.join("deep/closed/inside")).unwrap(), vec![7; 300_000]);
    assert_eq!(copy.join("same").metadata().unwrap().ino(), file.ino());
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("/leads/nowhere"));
    assert!(copy.join(long).exists());
    let sparse = copy.join("sparse").metadata().unwrap();
    assert!(sparse.len() == 1 << 30 && sparse.blocks() < 1000, "{} blocks", sparse.blocks());
    let mut middle = [0; 13];
    File::open(copy.join("sparse")).unwrap().read_exact_at(&mut middle, 1 << 29).unwrap();
    assert_eq!(&middle, b"in the middle");

    // A second time over it, with owners.
    let trust = Trust { owners: true, devices: false };
    unpack(&stream[..], to.path(), Path::new(""), trust).unwrap();
    assert_eq!(copy.join("deep/file").metadata().unwrap().mode() & 0o7777, 0o4751);
}

#[test]
fn what_is_in_a_directory_is_sent_without_it() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::write(from.path().join("a"), "a").unwrap();
    unpack(&packed(from.path(), "")[..], to.path(), Path::new(""), NONE).unwrap();
    assert_eq!(fs::read(to.path().join("a")).unwrap(), b"a");
    let file = from.path().join("a");
    unpack(&packed(&file, "renamed")[..], to.path(), Path::new(""), NONE).unwrap();
    assert_eq!(fs::read(to.path().join("renamed")).unwrap(), b"a");
}

#[test]
fn a_directory_takes_no_file_s_place_nor_the_other_way_round() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::create_dir(from.path().join("x")).unwrap();
    fs::write(to.path().join("x"), "file").unwrap();
    assert!(unpack(&packed(&from.path().join("x"), "x")[..], to.path(), Path::new(""), NONE).is_err());
    assert_eq!(fs::read(to.path().join("x")).unwrap(), b"file");
    assert!(unpack(&packed(&to.path().join("x"), "x")[..], from.path(), Path::new(""), NONE).is_err());
    assert!(from.path().join("x").is_dir());
}

/// An entry as a hostile sender writes it.
#[derive(Debug, Clone)]
struct Hostile {
    kind: EntryType,
    name: String,
    target: String,
}

fn archive(entries: &[Hostile]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for Hostile { kind, name, target } in entries {
        let body: &[u8] = if kind.is_file() { b"from the guest" } else { b"" };
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        header.set_size(body.len() as u64);
        let bytes = header.as_gnu_mut().unwrap();
        bytes.name[..name.len()].copy_from_slice(name.as_bytes());
        bytes.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        archive.append(&header, body).unwrap();
    }
    archive.into_inner().unwrap()
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let kinds = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
    ]);
    let part = prop::sample::select(vec!["a", "b", "link", "..", ".", "", "outside", "secret"]);
    let path = (any::<bool>(), prop::collection::vec(part, 1..4))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")));
    (kinds, path.clone(), path).prop_map(|(kind, name, target)| Hostile { kind, name, target })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn whatever_an_archive_says_nothing_outside_the_directory_changes(
        entries in prop::collection::vec(hostile(), 1..8),
    ) {
        let world = tempfile::tempdir().unwrap();
        let (outside, inside) = (world.path().join("outside"), world.path().join("inside"));
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&inside).unwrap();
        fs::write(outside.join("secret"), "of the host").unwrap();
        symlink("../outside", inside.join("link")).unwrap(); // and one that is there already
        let trust = Trust { owners: rustix::process::geteuid().is_root(), devices: false };
        let _ = unpack(&archive(&entries)[..], &inside, Path::new(""), trust);
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        prop_assert_eq!(names(world.path()), ["inside", "outside"]);
        prop_assert_eq!(names(&outside), ["secret"]);
        let secret = outside.join("secret");
        prop_assert_eq!(fs::read(&secret).unwrap(), b"of the host");
        prop_assert_eq!(secret.metadata().unwrap().nlink(), 1);
        prop_assert_eq!(outside.metadata().unwrap().mode() & 0o7777, 0o755);
    }
}

#[test]
fn a_name_that_leads_outside_is_named() {
    for name in ["../x", "/etc/x", "a/../../x"] {
        let to = tempfile::tempdir().unwrap();
        let entry = Hostile { kind: EntryType::Regular, name: name.to_owned(), target: String::new() };
        let error = unpack(&archive(&[entry])[..], to.path(), Path::new(""), NONE).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_was_not_asked_for_is_not_written() {
    let to = tempfile::tempdir().unwrap();
    fs::write(to.path().join("mine"), "mine").unwrap();
    let file =
        |name: &str| Hostile { kind: EntryType::Regular, name: name.to_owned(), target: String::new() };
    assert!(
        unpack(&archive(&[file("asked"), file("mine")])[..], to.path(), Path::new("asked"), NONE).is_err()
    );
    let link = Hostile { kind: EntryType::Link, name: "asked/for".to_owned(), target: "mine".to_owned() };
    assert!(unpack(&archive(&[link, file("asked/for")])[..], to.path(), Path::new("asked"), NONE).is_err());
    assert_eq!(fs::read(to.path().join("mine")).unwrap(), b"mine");
}
