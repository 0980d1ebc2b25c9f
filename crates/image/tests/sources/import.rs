use std::sync::atomic::Ordering;
use std::{fs, os::unix::fs::FileExt, process::Command};

use hypeman_image::{Changes, Error, Image, Progress, PullRequest, Quiet, Result};
use tar::EntryType;
use tempfile::TempDir;

use crate::fixtures::{Layer, cat, inode, layout, paths, store_in, xattrs};

/// Imports an image of these layers; the directory keeps its store alive.
fn import(layers: Vec<Layer>) -> (TempDir, Result<Image>) {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("layout"), layers);
    let store = store_in(&dir.path().join("data"));
    let image = store.import(&dir.path().join("layout"), Some("test"), &Changes::default(), &Quiet);
    (dir, image)
}

fn disk(layers: Vec<Layer>) -> (TempDir, std::path::PathBuf) {
    let (dir, image) = import(layers);
    let rootfs = image.unwrap().rootfs();
    (dir, rootfs)
}

/// No file and no directory of an image is left in the store, half-made or whole.
fn assert_nothing_left(dir: &TempDir) {
    let left = fs::read_dir(dir.path().join("data/images")).unwrap().flatten().map(|e| e.file_name());
    let left: Vec<_> =
        left.filter(|name| name.len() == 64 || name.to_string_lossy().contains("tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_whiteout_hides_lower_layers_only() {
    let lower = Layer::new().dir("d").file("d/old", "1").file("gone", "1").file("back", "1");
    let upper =
        Layer::new().file(".wh.gone", "").file("back", "2").file(".wh.back", "").file("d/.wh..wh..opq", "");
    let (_dir, disk) = disk(vec![lower, upper.file("d/new", "2")]);
    assert_eq!(paths(&disk), ["back", "d", "d/new"]);
    assert_eq!(cat(&disk, "back"), "2");
}

#[test]
fn a_file_keeps_its_content_when_its_first_name_is_whited_out() {
    let lower = Layer::new().file("first", "content");
    let middle = Layer::new().link("second", "first").link("third", "/second");
    let (_dir, disk) = disk(vec![lower, middle, Layer::new().file(".wh.first", "")]);
    assert_eq!(paths(&disk), ["second", "third"]);
    assert_eq!(cat(&disk, "third"), "content");
    assert_eq!(inode(&disk, "second"), inode(&disk, "third"));
}

#[test]
fn kinds_replace_each_other() {
    let lower = Layer::new().dir("a").file("a/x", "1").file("b", "1").symlink("c", "a");
    let upper = Layer::new().file("a", "file").dir("b").file("b/y", "2").dir("c");
    let (_dir, disk) = disk(vec![lower, upper]);
    assert_eq!(paths(&disk), ["a", "b", "b/y", "c"]);
    assert_eq!(cat(&disk, "a"), "file");
}

#[test]
fn an_entry_below_a_symbolic_link_lands_where_the_link_points_inside_the_image() {
    let lower = Layer::new().dir("usr").dir("usr/lib").symlink("lib", "usr/lib").symlink("abs", "/usr");
    let (_dir, disk) = disk(vec![lower, Layer::new().file("lib/a", "1").file("abs/b", "2")]);
    assert_eq!(paths(&disk), ["abs", "lib", "usr", "usr/b", "usr/lib", "usr/lib/a"]);
}

#[test]
fn xattrs_are_kept_byte_for_byte() {
    // A newline is a valid byte of a capability mask and must not be taken for the end of a PAX
    // record.
    let layer = Layer::new().xattr("user.lines", b"one\ntwo=2").file("a", "1");
    let (_dir, disk) = disk(Vec::from([layer]));
    assert!(xattrs(&disk, "a").contains("one\ntwo=2") || xattrs(&disk, "a").contains("6F6E650A74776F"));
}

#[test]
fn entries_that_try_to_escape_are_refused_by_name() {
    let device = |name| Layer::new().entry(EntryType::Block, name, "", b"");
    let cases = [
        ("../evil", Layer::new().file("../evil", "")),
        ("a/../../evil", Layer::new().file("a/../../evil", "")),
        ("evil-link", Layer::new().link("evil-link", "../../etc/shadow")),
        ("out/evil", Layer::new().symlink("out", "../..").file("out/evil", "")),
        ("evil-absent", Layer::new().link("evil-absent", "/etc/shadow")),
        ("evil-disk", device("evil-disk")),
    ];
    for (entry, layer) in cases {
        let (dir, image) = import(vec![layer]);
        let error = image.err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|e| e.contains(entry)), "{entry}: {error:?}");
        assert_nothing_left(&dir);
    }
}

#[test]
fn a_damaged_layer_is_refused_and_the_import_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let (source, store) = (dir.path().join("layout"), store_in(&dir.path().join("data")));
    layout(&source, vec![Layer::new().file("a", "1")]);
    let blobs = fs::read_dir(source.join("blobs/sha256")).unwrap().flatten();
    let layer = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap().path();
    let whole = fs::read(&layer).unwrap();
    fs::OpenOptions::new().write(true).open(&layer).unwrap().write_at(b"2", 512).unwrap();
    let import = || store.import(&source, Some("test"), &Changes::default(), &Quiet);
    assert!(matches!(import(), Err(Error::Digest { .. })));
    assert_nothing_left(&dir);
    fs::write(&layer, whole).unwrap();
    assert_eq!(import().unwrap().names, ["test"]);
}

#[test]
fn a_truncated_root_file_system_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = Layer::new().file("bin", "x").tar();
    // In the middle of a member, and exactly between the last member and the end mark.
    for length in [600, 1024] {
        let tar = dir.path().join("root.tar");
        fs::write(&tar, &whole[..length]).unwrap();
        let image = store_in(&dir.path().join("data")).import(&tar, None, &Changes::default(), &Quiet);
        assert!(image.unwrap_err().to_string().contains("root.tar"));
        assert_nothing_left(&dir);
    }
}

#[test]
fn the_same_root_file_system_is_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("my-root.tar");
    fs::write(&tar, Layer::new().file("bin", "x").tar()).unwrap();
    let store = store_in(&dir.path().join("data"));
    let import = |name| store.import(&tar, name, &Changes::default(), &Quiet).unwrap();
    let (first, second) = (import(None), import(Some("other:2")));
    assert_eq!(first.digest, second.digest);
    assert_eq!(second.names, ["my-root", "other:2"]);
    assert_eq!(first.config.cmd, ["/bin/sh"]);
}

/// A file system of this size, gone with it; `None`, aloud, where we may not mount.
struct Tiny(TempDir);

impl Tiny {
    fn mount(size: &str) -> Option<Tiny> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Tiny(dir));
        }
        eprintln!("SKIPPED: mounting a tmpfs needs root");
        None
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_on_it() {
    let source = tempfile::tempdir().unwrap();
    layout(source.path(), vec![crate::fixtures::noise()]);
    // Full while the layer is unpacked; full while the tool writes the disk.
    for size in ["512k", "1600k"] {
        let Some(tiny) = Tiny::mount(size) else { return };
        let store = store_in(&tiny.0.path().join("data"));
        let error = store.import(source.path(), Some("test"), &Changes::default(), &Quiet).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{size}: {error}");
        assert_nothing_left(&tiny.0);
    }
}

/// The archives of skopeo are those of docker and podman.
#[test]
fn archives_of_an_image_hold_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("layout");
    layout(&source, vec![Layer::new().file("a", "1").file("b", "2")]);
    for kind in ["docker-archive", "oci-archive"] {
        let archive = dir.path().join(kind);
        let to = format!("{kind}:{}:example/app:1", archive.display());
        let from = format!("oci:{}", source.display());
        let copied = Command::new("skopeo").args(["copy", "-q", "--insecure-policy", &from, &to]).status();
        let Ok(copied) = copied else {
            eprintln!("SKIPPED: skopeo is not installed: apt-get install skopeo");
            return;
        };
        assert!(copied.success());
        let store = store_in(&dir.path().join(format!("data-{kind}")));
        let image = store.import(&archive, None, &Changes::default(), &Quiet).unwrap();
        assert_eq!(paths(&image.rootfs()), ["a", "b"], "{kind}");
        assert_eq!(image.names, ["example/app:1"], "{kind}");
        assert_eq!(image.config.entrypoint, ["/bin/app"]);
    }
}

/// Cancels when it has been told of this many pieces.
struct Impatient(std::sync::atomic::AtomicUsize);

impl Progress for Impatient {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    }
    fn warn(&self, _message: &str) {}
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn work_that_is_cancelled_leaves_nothing() {
    for pieces in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        layout(dir.path(), vec![Layer::new().file("a", "one"), Layer::new().file("b", "two")]);
        let store = store_in(&dir.path().join("data"));
        let progress = Impatient(pieces.into());
        let error = store.import(dir.path(), None, &Changes::default(), &progress).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_nothing_left(&dir);
    }
    // A registry that takes the call, and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/silent:1", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(&dir.path().join("data"));
    let progress = Impatient(1.into());
    let error = std::thread::scope(|scope| {
        let _caller = scope.spawn(|| {
            let caller = listener.accept();
            progress.0.store(0, Ordering::Relaxed);
            caller
        });
        store.pull(&PullRequest::of(&reference), &progress).unwrap_err()
    });
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_nothing_left(&dir);
}
