//! An OCI layout with one image of one layer.

use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a layout to `directory`: `rootfs`, a tar file, compressed with gzip, and how to run it.
///
/// # Panics
/// When a file cannot be written.
pub fn write(directory: &Path, rootfs: &Path, config: &serde_json::Value) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a directory");
    let layer = Command::new("gzip").arg("-nc").arg(rootfs).output().expect("gzip").stdout;
    let diff_id = format!("sha256:{}", sha256(&std::fs::read(rootfs).expect("read")));
    let put = |bytes: &[u8], kind: &str| {
        let hex = sha256(bytes);
        std::fs::write(blobs.join(&hex), bytes).expect("write a blob");
        let media_type = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes(), "config.v1+json"),
        "layers": [put(&layer, "layer.v1.tar+gzip")],
    });
    let manifest = put(manifest.to_string().as_bytes(), "manifest.v1+json");
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(directory.join("index.json"), index.to_string()).expect("write");
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
}

/// The digest by coreutils, so that it is not ours that is tested by itself.
fn sha256(bytes: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), bytes).expect("write");
    let output = child.wait_with_output().expect("its end").stdout;
    String::from_utf8_lossy(&output[..64]).into_owned()
}
