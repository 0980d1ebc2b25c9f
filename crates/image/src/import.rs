//! Images from files: an OCI layout, an OCI or docker archive, a root filesystem.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use hypeman_files::AtPath;
use serde::Deserialize;

use crate::config::Changes;
use crate::error::{Error, Result, content};
use crate::limits::{LONGEST_PATH, MOST_DOCUMENT, MOST_MEMBERS, Room};
use crate::manifest::{Descriptor, Manifest};
use crate::members::Members;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::source::{self, Source};
use crate::spool::{Blob, Span, spool};
use crate::{digest, names};

/// Looks what `path` is, and takes it.
pub(crate) fn import(
    path: &Path,
    changes: &Changes,
    scratch: &Path,
    most: u64,
    progress: &dyn Progress,
) -> Result<Source> {
    if path.metadata().at(path)?.is_dir() {
        let files = |name: &str| Some(path.join(name)).filter(|path| path.is_file()).map(Span::whole);
        return layout(&path.display().to_string(), &files);
    }
    let what = path.display().to_string();
    let blob = Blob { what: what.clone(), at: Span::whole(path.to_owned()), digest: None, diff_id: None };
    let tar = spool(&blob, scratch, &mut Room::on(scratch, most)?, progress)?;
    match kind(&what, &tar.file)? {
        Kind::RootFs => return rootfs(path, blob, &tar.diff_id, changes),
        Kind::OldArchive => {
            let advice = "load it with docker 1.10 or newer, or skopeo, and save it again";
            return Err(content(what, format!("it was saved by a docker older than 1.10; {advice}")));
        }
        Kind::Archive => {}
    }
    let members = members(&what, path, Rc::new(tar.file))?;
    let files = |name: &str| members.get(name).cloned();
    if members.contains_key("index.json") { layout(&what, &files) } else { docker_archive(&what, &files) }
}

/// Kind of a tar archive.
enum Kind {
    /// An OCI or docker archive.
    Archive,
    /// A docker archive without a manifest.
    OldArchive,
    /// Anything else.
    RootFs,
}

/// Tells what a tar is: archives of images have a document in their root that no root filesystem
/// has.
fn kind(what: &str, tar: &File) -> Result<Kind> {
    let broken = |error: std::io::Error| content(what, error);
    let (mut has_layers, mut has_repositories) = (false, false);
    for member in Members::new(tar.try_clone().map_err(broken)?, false).map_err(broken)? {
        let path = member.map_err(broken)?.path;
        match path.strip_prefix(b"./").unwrap_or(&path) {
            b"oci-layout" | b"manifest.json" => return Ok(Kind::Archive),
            b"repositories" => has_repositories = true,
            path => has_layers |= path.split(|byte| *byte == b'/').nth(1) == Some(b"layer.tar"),
        }
    }
    Ok(if has_layers && has_repositories { Kind::OldArchive } else { Kind::RootFs })
}

/// Where the members of an archive lie in it.
pub(crate) fn members(what: &str, path: &Path, tar: Rc<File>) -> Result<BTreeMap<String, Span>> {
    let broken = |error: std::io::Error| content(what, error);
    let mut members = BTreeMap::new();
    let mut links = Vec::new();
    for member in Members::new(tar.try_clone().map_err(broken)?, false).map_err(broken)? {
        let member = member.map_err(broken)?;
        if members.len() + links.len() >= MOST_MEMBERS {
            return Err(content(
                what,
                format!("it is an archive of images with more than {MOST_MEMBERS} members"),
            ));
        }
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_PATH)]).into_owned();
        let name = text(member.path.strip_prefix(b"./").unwrap_or(&member.path));
        if member.kind.is_file() {
            let part = Some((member.offset, member.size));
            members.insert(name, Span { path: path.to_owned(), file: Some(tar.clone()), part });
        } else if !member.link.is_empty() {
            links.push((name, text(&member.link)));
        }
    }
    // Older dockers save a layer that occurs twice as a link to `../<id>/layer.tar`.
    for (name, target) in links {
        if let Some(span) = members.get(target.trim_start_matches("../")).cloned() {
            members.insert(name, span);
        }
    }
    Ok(members)
}

/// Finds a member by its name.
type Files<'a> = dyn Fn(&str) -> Option<Span> + 'a;

fn document(what: &str, files: &Files<'_>, name: &str) -> Result<Vec<u8>> {
    let span = files(name).ok_or_else(|| content(what, format!("{name} is missing in it")))?;
    let (file, length) = span.open()?;
    if length > MOST_DOCUMENT {
        return Err(content(
            format!("{what}: {name}"),
            format!("it has {length} bytes; {MOST_DOCUMENT} are allowed"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(MOST_DOCUMENT).read_to_end(&mut bytes).at(&span.path)?;
    Ok(bytes)
}

fn parse<'a, T: Deserialize<'a>>(what: &str, name: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| content(format!("{what}: {name}"), error))
}

fn layout(what: &str, files: &Files<'_>) -> Result<Source> {
    let blob = |digest: &str| Ok::<_, Error>(format!("blobs/sha256/{}", digest::hex(digest)?));
    let verified = |digest: &str| {
        let bytes = document(what, files, &blob(digest)?)?;
        digest::verify(&format!("{what}: blob"), digest, &digest::of(&bytes))?;
        Ok::<_, Error>(bytes)
    };
    let mut names = Vec::new();
    let mut digest = None;
    let mut manifest: Manifest = parse(what, "index.json", &document(what, files, "index.json")?)?;
    // An index may lead to another, and a hostile one in a circle.
    for _ in 0..4 {
        let Some(config) = &manifest.config else {
            let next = manifest.choose().cloned();
            let next = next.ok_or_else(|| content(what, "it has no image for linux/amd64"))?;
            // One image may stand there once for each of its names.
            if names.is_empty() {
                let same = manifest.manifests.iter().filter(|d| d.digest == next.digest);
                names = same.filter_map(own_name).collect();
            }
            manifest = parse(what, &next.digest, &verified(&next.digest)?)?;
            digest = Some(next.digest);
            continue;
        };
        let layers = manifest.layers.iter().enumerate().map(|(number, layer)| {
            let at = files(&blob(&layer.digest)?);
            let at = at.ok_or_else(|| content(what, format!("layer {} is missing in it", layer.digest)))?;
            let label = format!("{what}: layer {} of {}", number + 1, manifest.layers.len());
            Ok(Blob { what: label, at, digest: Some(layer.digest.clone()), diff_id: None })
        });
        return source::describe(digest, names, &verified(&config.digest)?, layers.collect::<Result<_>>()?);
    }
    Err(content(what, "its indexes lead to no image"))
}

/// The name in a layout's annotations: containerd's whole one, or a reference that is one.
fn own_name(descriptor: &Descriptor) -> Option<String> {
    let annotation = |key: &str| descriptor.annotations.get(key);
    let name = annotation("io.containerd.image.name").or_else(|| {
        // Alone a tag is no name.
        annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']))
    })?;
    // A name with a digest is only that image's.
    let reference = Reference::parse(name).ok()?;
    names::check_digest(&reference, &descriptor.digest).ok()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker_archive(what: &str, files: &Files<'_>) -> Result<Source> {
    let text = document(what, files, "manifest.json")?;
    let [manifest]: [DockerManifest; 1] = parse::<Vec<_>>(what, "manifest.json", &text)?
        .try_into()
        .map_err(|all: Vec<_>| content(what, format!("it holds {} images; save one at a time", all.len())))?;
    let layers = manifest.layers.iter().map(|name| {
        let at = files(name).ok_or_else(|| content(what, format!("layer {name} is missing in it")))?;
        Ok(Blob { what: format!("{what}: {name}"), at, digest: None, diff_id: None })
    });
    let names =
        manifest.repo_tags.unwrap_or_default().iter().filter_map(|tag| names::full(tag).ok()).collect();
    source::describe(None, names, &document(what, files, &manifest.config)?, layers.collect::<Result<_>>()?)
}

fn rootfs(path: &Path, blob: Blob, diff_id: &str, changes: &Changes) -> Result<Source> {
    let config = changes.config()?;
    // The same files with another command are another image.
    let identity =
        serde_json::to_vec(&(diff_id, &config)).map_err(|error| content("the configuration", error))?;
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.split(".tar").next().unwrap_or_default().to_lowercase();
    let names = names::full(&stem).into_iter().collect();
    Ok(Source { digest: digest::of(&identity), names, config, layers: vec![blob] })
}
