//! Images as they are met in the field, which docker, podman and containerd take.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hypeman_image::{Changes, Image, Progress, Quiet, Result};
use tar::EntryType;

use crate::fixtures::{Layer, cat, digest, inode, layout, paths, store_in};

/// Keeps what the user is told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

fn import(source: &Path, name: Option<&str>) -> Result<Image> {
    import_telling(source, name, &Quiet)
}

fn import_telling(source: &Path, name: Option<&str>, progress: &dyn Progress) -> Result<Image> {
    // Beside the source, whose directory outlives what the test looks at.
    let data = source.with_extension("data");
    store_in(&data).import(source, name, &Changes::default(), progress)
}

/// A layout whose only layer is these bytes, uncompressed, for an architecture of any name; its
/// index may be changed.
fn layout_of(
    directory: &Path,
    layer: &[u8],
    architecture: &str,
    change: impl Fn(&mut serde_json::Value),
) -> PathBuf {
    let source = directory.join("layout");
    let blobs = source.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        serde_json::json!({"mediaType": "x", "digest": digest, "size": bytes.len()})
    };
    let config = serde_json::json!({
        "os": "linux", "architecture": architecture, "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    });
    let config = put(config.to_string().as_bytes());
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [put(layer)]});
    let manifest = put(manifest.to_string().as_bytes());
    let mut index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    change(&mut index["manifests"]);
    fs::write(source.join("index.json"), index.to_string()).unwrap();
    fs::write(source.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    source
}

#[test]
fn devices_below_dev_are_left_out_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("layout");
    let devices = ["dev/loop0", "dev/ram0", "./dev/mem"];
    let layer = devices.iter().fold(Layer::new().dir("dev").file("a", "1"), |layer, name| {
        layer.entry(EntryType::Block, name, "", b"")
    });
    layout(&source, vec![layer]);
    let told = Told::default();
    let image = import_telling(&source, Some("test"), &told).unwrap();
    assert_eq!(paths(&image.rootfs()), ["a", "dev"]);
    let told = told.0.into_inner().unwrap().join("\n");
    assert!(told.contains("3 device nodes") && devices.iter().all(|name| told.contains(name)), "{told}");
}

#[test]
fn a_layer_without_an_end_mark_or_of_no_bytes_is_whole_when_its_digest_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let tar = Layer::new().file("a", "1").tar();
    for (number, bytes) in [&tar[..1024], &tar[..513], b""].into_iter().enumerate() {
        let source = layout_of(&directory.path().join(number.to_string()), bytes, "amd64", |_| {});
        let image = import(&source, Some("test")).unwrap();
        let expected: &[&str] = if bytes.is_empty() { &[] } else { &["a"] };
        assert_eq!(paths(&image.rootfs()), expected);
    }
}

#[test]
fn a_root_filesystem_is_taken_however_it_is_compressed_and_garbage_is_told_in_printable_words() {
    let directory = tempfile::tempdir().unwrap();
    let tar = Layer::new().file("a", "content").tar();
    let xz = {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut liblzma::read::XzEncoder::new(&tar[..], 1), &mut bytes).unwrap();
        bytes
    };
    let bzip2 = {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap()
    };
    for (name, bytes) in [("xz", &xz), ("bzip2", &bzip2)] {
        let source = directory.path().join(name);
        fs::write(&source, bytes).unwrap();
        assert_eq!(cat(&import(&source, None).unwrap().rootfs(), "a"), "content", "{name}");
    }
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, b"\x04\x22\x4d\x18\x1b[2J\xff".repeat(500)).unwrap();
    let error = import(&garbage, None).unwrap_err().to_string();
    assert!(error.contains("garbage") && error.contains("no tar archive"), "{error}");
    assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
}

#[test]
fn every_tag_of_an_archive_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let tar = Layer::new().file("a", "1").tar();
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
    });
    let tags = ["app:one", "app:two"];
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": tags, "Layers": ["l/layer.tar"]}]);
    let archive = Layer::new()
        .file("c.json", &config.to_string())
        .entry(EntryType::Regular, "l/layer.tar", "", &tar)
        .file("manifest.json", &manifest.to_string());
    let docker = directory.path().join("docker.tar");
    fs::write(&docker, archive.tar()).unwrap();
    assert_eq!(import(&docker, None).unwrap().names, tags);

    let oci = layout_of(directory.path(), &tar, "amd64", |manifests| {
        let named = |tag: &str| {
            let mut manifest = manifests[0].clone();
            manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
            manifest
        };
        *manifests = serde_json::json!(tags.map(named));
    });
    assert_eq!(import(&oci, None).unwrap().names, tags);
}

#[test]
fn a_name_with_a_digest_is_that_image_s_alone() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("layout");
    let digest = layout(&source, vec![Layer::new().file("a", "1")]);
    let other = format!("app@sha256:{}", "0".repeat(64));
    let error = import(&source, Some(&other)).unwrap_err().to_string();
    assert!(error.contains(&other) && error.contains(&digest), "{error}");
    import(&source, Some(&format!("app@{digest}"))).unwrap();
}

#[test]
fn owners_that_no_file_system_can_hold_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("uid", &b"4294967296"[..])]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    builder.append_data(&mut header, "set-uid", std::io::empty()).unwrap();
    let source = layout_of(directory.path(), &builder.into_inner().unwrap(), "amd64", |_| {});
    let error = import(&source, Some("test")).unwrap_err().to_string();
    assert!(error.contains("set-uid") && error.contains("4294967296"), "{error}");
}

#[test]
fn amd64_is_known_by_its_other_names_and_plain_amd64_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let tar = Layer::new().file("a", "1").tar();
    let source = layout_of(&directory.path().join("x86_64"), &tar, "x86_64", |manifests| {
        manifests[0]["platform"] = serde_json::json!({"os": "linux", "architecture": "x86_64"});
    });
    import(&source, Some("test")).unwrap();
    let source = layout_of(&directory.path().join("variants"), &tar, "amd64", |manifests| {
        let entry = |base: serde_json::Value, variant: Option<&str>| {
            let mut entry = base;
            entry["platform"] =
                serde_json::json!({"os": "linux", "architecture": "amd64", "variant": variant});
            entry
        };
        // The other is not even there: taking it would fail.
        let absent = serde_json::json!({"digest": format!("sha256:{}", "0".repeat(64)), "size": 1});
        *manifests = serde_json::json!([entry(absent, Some("v3")), entry(manifests[0].clone(), None)]);
    });
    import(&source, Some("test")).unwrap();
}

#[test]
fn an_archive_of_a_docker_before_1_10_is_named_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let archive = Layer::new()
        .dir("0123/")
        .file("0123/VERSION", "1.0")
        .file("0123/json", "{}")
        .file("0123/layer.tar", "")
        .file("repositories", "{}");
    let source = directory.path().join("old.tar");
    fs::write(&source, archive.tar()).unwrap();
    let error = import(&source, None).unwrap_err().to_string();
    assert!(error.contains("old.tar") && error.contains("1.10"), "{error}");
}

#[test]
fn what_aufs_kept_for_itself_is_dropped_but_for_what_links_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("layout");
    let layer = Layer::new()
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/12.34", "content")
        .dir(".wh..wh.orph")
        .file(".wh..wh.aufs", "")
        .link("one", ".wh..wh.plnk/12.34")
        .link("d/two", ".wh..wh.plnk/12.34");
    layout(&source, vec![layer]);
    let disk = import(&source, Some("test")).unwrap().rootfs();
    assert_eq!(paths(&disk), ["d", "d/two", "one"]);
    assert_eq!((cat(&disk, "one"), inode(&disk, "one")), ("content".to_owned(), inode(&disk, "d/two")));
    layout(&source, vec![Layer::new().link("linked", ".wh..wh.plnk/5.6")]);
    let error = import(&source, Some("test")).unwrap_err().to_string();
    assert!(error.contains("linked"), "{error}");
}
