use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;
use crate::pack;

const NONE: Trust = Trust { owners: false, devices: false, links: Links::Refused };

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
    let trust = Trust { owners: true, ..NONE };
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
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
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
    let part =
        prop::sample::select(vec!["a", "b", "link", "..", ".", "", "outside", "secret", "copy", "copy"]);
    let path = (any::<bool>(), prop::collection::vec(part, 1..4))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")));
    (kinds, path.clone(), path).prop_map(|(kind, name, target)| Hostile { kind, name, target })
}

/// Contents of a directory, with all that a copy could change of it.
fn state(directory: &Path) -> Vec<(PathBuf, u32, u64, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let contents = match metadata.file_type() {
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        found.push((path.clone(), metadata.mode(), links, contents));
        if metadata.is_dir() {
            found.extend(state(&path));
        }
    }
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// Neither what lies beside the directory, nor what lies in it beside the copy.
    #[test]
    fn whatever_an_archive_says_nothing_outside_the_copy_changes(
        entries in prop::collection::vec(hostile(), 1..8),
        before in prop::sample::select(vec!["", "copy", "link"]),
    ) {
        let world = tempfile::tempdir().unwrap();
        let inside = world.path().join("inside");
        for outside in [world.path().join("outside"), inside.join("outside")] {
            fs::create_dir_all(&outside).unwrap();
            fs::write(outside.join("secret"), "of the host").unwrap();
        }
        fs::write(inside.join("a"), "of the host").unwrap();
        symlink("../outside", inside.join("link")).unwrap(); // and one that is there already
        match before {
            "copy" => fs::create_dir(inside.join("copy")).unwrap(),
            "link" => symlink("outside", inside.join("copy")).unwrap(),
            _ => {}
        }
        let outside = |all: Vec<(PathBuf, u32, u64, Vec<u8>)>| {
            all.into_iter().filter(|(path, ..)| !path.starts_with(inside.join("copy"))).collect::<Vec<_>>()
        };
        let was = outside(state(world.path()));
        let trust = Trust { owners: rustix::process::geteuid().is_root(), ..NONE };
        let _ = unpack(&archive(&entries)[..], &inside, Path::new("copy"), trust);
        prop_assert_eq!(outside(state(world.path())), was);
        // Without a name all in the directory is the copy's, and nothing beside it.
        let _ = unpack(&archive(&entries)[..], &inside, Path::new(""), trust);
        prop_assert_eq!(state(&world.path().join("outside")).len(), 1);
        prop_assert_eq!(fs::read(world.path().join("outside/secret")).unwrap(), b"of the host");
        prop_assert_eq!(world.path().join("outside/secret").metadata().unwrap().nlink(), 1);
    }
}

/// `hypeman cp vm:/x ~/` is no way to `~/.ssh`.
#[test]
fn a_link_of_the_archive_is_no_way_to_what_lies_beside_the_copy() {
    let entry = |kind, name: &str, target: &str| Hostile { kind, name: name.into(), target: target.into() };
    let (directory, link, file) = (EntryType::Directory, EntryType::Symlink, EntryType::Regular);
    let archives = [
        vec![entry(link, "x", ".ssh"), entry(file, "x/keys", "")],
        vec![entry(directory, "x", ""), entry(link, "x/l", "../.ssh"), entry(file, "x/l/keys", "")],
        vec![entry(directory, "x", ""), entry(link, "x/b", ".."), entry(directory, "x/b/.ssh", "")],
        vec![entry(link, "x/l", ".."), entry(EntryType::Link, "x/h", "x/l/.ssh/keys")],
        vec![entry(EntryType::Link, "x/h", "x/mine")],
        vec![entry(link, "x", ".ssh"), entry(EntryType::Link, "x/h", "x/keys")],
    ];
    for entries in archives {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".ssh")).unwrap();
        fs::create_dir_all(home.path().join("x")).unwrap();
        fs::write(home.path().join("x/mine"), "mine").unwrap();
        fs::write(home.path().join(".ssh/keys"), "mine").unwrap();
        let was = state(&home.path().join(".ssh"));
        assert!(unpack(&archive(&entries)[..], home.path(), Path::new("x"), NONE).is_err(), "{entries:?}");
        assert_eq!(state(&home.path().join(".ssh")), was, "{entries:?}");
        assert_eq!(home.path().join("x/mine").metadata().unwrap().nlink(), 1);
    }
}

/// In a guest links mean what they mean to everybody there.
#[test]
fn names_lead_through_the_links_of_a_place_that_is_its_owner_s() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    fs::create_dir_all(run.join("app")).unwrap();
    fs::create_dir(root.path().join("var")).unwrap();
    symlink(&run, root.path().join("var/run")).unwrap();
    let entry = |kind, name: &str| Hostile { kind, name: name.into(), target: String::new() };
    let stream = archive(&[
        entry(EntryType::Directory, "var/run"),
        entry(EntryType::Regular, "var/run/app/pid"),
        entry(EntryType::Regular, "var/run/new/pid"),
    ]);
    unpack(&stream[..], root.path(), Path::new(""), Trust { links: Links::Followed, ..NONE }).unwrap();
    assert!(run.join("app/pid").is_file() && run.join("new/pid").is_file());
    assert!(root.path().join("var/run").is_symlink());
    assert!(unpack(&stream[..], root.path(), Path::new(""), NONE).is_err());
}

#[test]
fn links_among_themselves_arrive_again_and_again() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    symlink("leads/nowhere", from.path().join("a")).unwrap();
    fs::hard_link(from.path().join("a"), from.path().join("b")).unwrap();
    fs::write(from.path().join("c"), "c").unwrap();
    fs::hard_link(from.path().join("c"), from.path().join("d")).unwrap();
    let mut stream = archive(&[
        Hostile { kind: EntryType::Symlink, name: "t/a".into(), target: "leads/nowhere".into() },
        Hostile { kind: EntryType::Link, name: "t/b".into(), target: "t/a".into() },
    ]);
    stream.truncate(stream.len() - 1024);
    stream.extend(packed(from.path(), "t"));
    for _ in 0..2 {
        unpack(&stream[..], to.path(), Path::new("t"), NONE).unwrap();
        for link in ["a", "b"] {
            assert_eq!(fs::read_link(to.path().join("t").join(link)).unwrap(), Path::new("leads/nowhere"));
        }
        assert_eq!(to.path().join("t/c").metadata().unwrap().nlink(), 2);
    }
}

#[test]
fn a_fifo_has_its_mode_whatever_the_umask() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let fifo = from.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::empty(), 0).unwrap();
    fs::set_permissions(&fifo, PermissionsExt::from_mode(0o666)).unwrap();
    unpack(&packed(from.path(), "")[..], to.path(), Path::new(""), NONE).unwrap();
    assert_eq!(to.path().join("fifo").metadata().unwrap().mode() & 0o7777, 0o666);
}

#[test]
fn a_file_that_tells_no_size_is_copied_and_what_cannot_be_is_told() {
    let to = tempfile::tempdir().unwrap();
    unpack(&packed(Path::new("/proc/version"), "version")[..], to.path(), Path::new(""), NONE).unwrap();
    assert_eq!(fs::read(to.path().join("version")).unwrap(), fs::read("/proc/version").unwrap());
    // Pages of another process's memory are no file that could be read from its beginning.
    let error = pack(Path::new("/proc/self/mem"), Path::new("mem"), false, std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("not copied whole: /proc/self/mem"), "{error}");
    let socket = to.path().join("socket");
    std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = pack(&socket, Path::new("socket"), false, std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("a socket"), "{error}");
    let device = Hostile { kind: EntryType::Char, name: "null".into(), target: String::new() };
    let error = unpack(&archive(&[device])[..], to.path(), Path::new("null"), NONE).unwrap_err();
    assert!(error.to_string().contains("a device"), "{error}");
}

/// A hole costs nothing, however large.
#[test]
fn a_hole_is_not_looked_at() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let sparse = File::create(from.path().join("sparse")).unwrap();
    sparse.set_len(1 << 42).unwrap(); // 4 TiB of zeros would take minutes
    sparse.write_all_at(b"in the middle", 1 << 41).unwrap();
    unpack(&packed(from.path(), "")[..], to.path(), Path::new(""), NONE).unwrap();
    let copy = File::open(to.path().join("sparse")).unwrap();
    let mut middle = [0; 13];
    copy.read_exact_at(&mut middle, 1 << 41).unwrap();
    assert_eq!((&middle, copy.metadata().unwrap().len()), (b"in the middle", 1 << 42));
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
