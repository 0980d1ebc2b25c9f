//! Layers and layouts made on the spot, and a look into the disks made of them.

use std::{fs, path::Path, process::Command};

use hypeman_image::Store;
use hypeman_record::data_dir::DataDir;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The images of a data directory.
pub(crate) fn store_in(data_dir: &Path) -> Store {
    Store::new(&DataDir::new(data_dir))
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer in the making.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Layer {
        Layer(Builder::new(Vec::new()))
    }

    /// An entry whose name goes into the header as it is, however bad.
    pub(crate) fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Layer {
        let mut header = Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Block | EntryType::Char) {
            header.set_device_major(7).unwrap();
            header.set_device_minor(0).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Layer {
        self.entry(EntryType::Regular, name, "", content.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Layer {
        self.entry(EntryType::Directory, name, "", b"")
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Layer {
        self.entry(EntryType::Link, name, target, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Layer {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    /// Gives the next entry an extended attribute.
    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Layer {
        self.0.append_pax_extensions([(format!("SCHILY.xattr.{name}").as_str(), value)]).unwrap();
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Writes an OCI layout of these layers, every second one in zstd, and returns the manifest's
/// digest.
pub(crate) fn layout(dir: &Path, layers: Vec<Layer>) -> String {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        digest
    };
    let (mut diff_ids, mut descriptors) = (Vec::new(), Vec::new());
    for (index, layer) in layers.into_iter().enumerate() {
        let tar = layer.tar();
        diff_ids.push(digest(&tar));
        let (suffix, bytes) = match index % 2 {
            0 => ("", tar),
            _ => ("+zstd", zstd::encode_all(&tar[..], 1).unwrap()),
        };
        descriptors.push(serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
            "digest": put(&bytes), "size": bytes.len(),
        }));
    }
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64",
        "config": {"Entrypoint": ["/bin/app"], "Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": put(config.as_bytes()), "size": config.len()},
        "layers": descriptors,
    })
    .to_string();
    let manifest_digest = put(manifest.as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": manifest_digest, "size": manifest.len(),
    }]});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest_digest
}

fn tool(program: &str, arguments: &[&str], disk: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).arg(disk).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Every path of the disk, sorted, without the root.
pub(crate) fn paths(disk: &Path) -> Vec<String> {
    let described = String::from_utf8(tool("rdsquashfs", &["--describe"], disk)).unwrap();
    let mut paths: Vec<String> =
        described.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_string).collect();
    paths.retain(|path| path != "/" && !path.is_empty());
    paths.sort();
    paths.iter().map(|path| path.trim_start_matches('/').to_string()).collect()
}

/// The content of a file on the disk.
pub(crate) fn cat(disk: &Path, path: &str) -> String {
    String::from_utf8(tool("rdsquashfs", &["--cat", path], disk)).unwrap()
}

/// The extended attributes of a file on the disk, as rdsquashfs prints them.
pub(crate) fn xattrs(disk: &Path, path: &str) -> String {
    String::from_utf8_lossy(&tool("rdsquashfs", &["--xattr", path], disk)).into_owned()
}

/// The inode number of a file on the disk.
pub(crate) fn inode(disk: &Path, path: &str) -> String {
    let stat = String::from_utf8(tool("rdsquashfs", &["--stat", path], disk)).unwrap();
    stat.lines().find(|line| line.starts_with("Inode number:")).unwrap().to_string()
}

/// A layer of one MiB that no compression makes small.
pub(crate) fn noise() -> Layer {
    let mut state = 1u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(1 << 20)
    .collect();
    Layer::new().entry(EntryType::Regular, "noise", "", &bytes)
}
