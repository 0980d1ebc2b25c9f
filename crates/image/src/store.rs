//! The images of a data directory.

use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Draft, Lock, lock_store, remove_entry, sync_directory};
use hypeman_record::data_dir::DataDir;
use hypeman_record::format::{self, Envelope};

use crate::config::Changes;
use crate::error::{Error, Result};
use crate::image::{Image, ImageRecord};
use crate::limits::DEFAULT_SIZE;
use crate::names::Names;
use crate::progress::{Progress, Stage};
use crate::pull::PullRequest;
use crate::reference::Reference;
use crate::source::Source;
use crate::{assemble, digest, import, names, pull};

const RECORD: &str = "image.json";

/// The images below one data directory.
#[derive(Debug, Clone)]
pub struct Store {
    images: PathBuf,
    most: u64,
}

impl Store {
    /// The images below `data_dir`, which need not exist yet.
    #[must_use]
    pub fn new(data_dir: &DataDir) -> Store {
        Store { images: data_dir.images(), most: DEFAULT_SIZE }
    }

    /// The same, with another limit to what an image may take when it is decompressed, in bytes.
    #[must_use]
    pub fn with_most(self, most: u64) -> Store {
        Store { most, ..self }
    }

    /// Fetches an image from its registry; one that is here already is only given the name.
    ///
    /// # Errors
    /// When the registry refuses, breaks off or sends something else, or the disk is full; nothing
    /// is left then.
    pub fn pull(&self, request: &PullRequest, progress: &dyn Progress) -> Result<Image> {
        let full = Reference::parse(&request.reference)?;
        let staging = Draft::begin(&self.images)?;
        progress.stage(Stage::Pulling);
        let source = pull::pull(&full, request, staging.path(), self.most, progress)?;
        progress.stage(Stage::Converting);
        self.adopt(&source, &[full.whole()], staging, progress)
    }

    /// Asks the registry which image a reference means for this host; returns its digest. Tries
    /// once, and fetches no layer.
    ///
    /// # Errors
    /// When the registry has no such image, refuses, or cannot be reached.
    pub fn resolve(&self, request: &PullRequest) -> Result<String> {
        pull::resolve(&Reference::parse(&request.reference)?, request)
    }

    /// Gives an image another name; the image that had the name loses it.
    ///
    /// # Errors
    /// When there is no such image, or the name is none or has a digest.
    pub fn tag(&self, query: &str, name: &str) -> Result<Image> {
        let name = Reference::parse(name)?;
        if name.digest().is_some() {
            let reason = "a name with a digest is not given, it is the image's own".to_owned();
            return Err(Error::Reference { reference: name.whole(), reason });
        }
        let _held = self.lock()?;
        let image = self.get(query)?;
        let mut names = Names::read(&self.images)?;
        names.digests.insert(name.whole(), image.digest.clone());
        names.write(&self.images)?;
        self.read(&image.directory, &names)?.ok_or_else(|| Error::NotFound(query.to_owned()))
    }

    /// Takes an image from an OCI layout, an OCI or docker archive, or a root filesystem in a tar
    /// file; told by what is in it. Without a name it gets those that the source has.
    ///
    /// # Errors
    /// When the source is damaged or tries to escape, or the disk is full; nothing is left then.
    pub fn import(
        &self,
        source: &Path,
        name: Option<&str>,
        changes: &Changes,
        progress: &dyn Progress,
    ) -> Result<Image> {
        let name = name.map(Reference::parse).transpose()?;
        let staging = Draft::begin(&self.images)?;
        let source = import::import(source, changes, staging.path(), self.most, progress);
        let source = unless_cancelled(source, progress)?;
        let names = match name {
            Some(name) => vec![names::check_digest(&name, &source.digest)?],
            None => source.names.clone(),
        };
        self.adopt(&source, &names, staging, progress)
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// When the directory cannot be read. That it is not there is no error.
    pub fn list(&self) -> Result<Vec<Image>> {
        let names = Names::read(&self.images)?;
        let mut images = Vec::new();
        for directory in hypeman_files::entries(&self.images)? {
            // Files beside the directories have no record.
            if directory.is_dir()
                && let Some(image) = self.read(&directory, &names)?
            {
                images.push(image);
            }
        }
        images.sort_by(|a, b| (b.imported, &b.digest).cmp(&(a.imported, &a.digest)));
        Ok(images)
    }

    /// The image of this name, or the only one whose digest begins so (with or without `sha256:`).
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Ambiguous`].
    pub fn get(&self, query: &str) -> Result<Image> {
        let names = Names::read(&self.images)?;
        if let Some(digest) = names::full(query).ok().and_then(|full| names.digests.get(&full).cloned())
            && let Some(image) = self.read(&self.images.join(digest::hex(&digest)?), &names)?
        {
            return Ok(image);
        }
        let prefix = query.strip_prefix("sha256:").unwrap_or(query);
        let by_digest =
            |image: &Image| !prefix.is_empty() && image.digest["sha256:".len()..].starts_with(prefix);
        // `name@sha256:...` is the image of that digest, whatever its name is now.
        let pinned = |image: &Image| query.split_once('@').is_some_and(|(_, digest)| digest == image.digest);
        let mut matching = self.list()?.into_iter().filter(|image| by_digest(image) || pinned(image));
        match (matching.next(), matching.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some(_)) => Err(Error::Ambiguous(query.to_owned())),
            (None, _) => Err(Error::NotFound(query.to_owned())),
        }
    }

    /// Takes a name from an image, and removes the image when that was its last one. `user` tells
    /// an instance that uses an image of this digest.
    ///
    /// # Errors
    /// When there is no such image, or an instance uses it.
    pub fn remove(&self, query: &str, user: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        let held = self.lock()?;
        let image = self.get(query)?;
        let mut names = Names::read(&self.images)?;
        let named = names::full(query).ok().filter(|full| names.digests.get(full) == Some(&image.digest));
        if let Some(full) = named
            && image.names.len() > 1
        {
            names.digests.remove(&full);
            return names.write(&self.images);
        }
        if let Some(user) = user(&image.digest) {
            return Err(Error::InUse { what: format!("image {query}"), user });
        }
        // First what takes room: a full disk has none for a new list of names. A name without its
        // image is none.
        remove_entry(&self.images, &image.directory, &held)?;
        names.digests.retain(|_, digest| *digest != image.digest);
        names.write(&self.images)
    }

    fn read(&self, directory: &Path, names: &Names) -> Result<Option<Image>> {
        let Some(ImageRecord { mut image, .. }) = format::read(&directory.join(RECORD))? else {
            return Ok(None);
        };
        image.directory = directory.to_owned();
        let own = names.digests.iter().filter(|(_, digest)| **digest == image.digest);
        image.names = own.map(|(name, _)| names::familiar(name)).collect();
        Ok(Some(image))
    }

    fn lock(&self) -> Result<Lock> {
        Ok(lock_store(&self.images)?)
    }

    /// Makes the disk of an image that is not here yet, and gives it the names.
    fn adopt(
        &self,
        source: &Source,
        wanted: &[String],
        staging: Draft,
        progress: &dyn Progress,
    ) -> Result<Image> {
        let directory = self.images.join(digest::hex(&source.digest)?);
        if !directory.join(RECORD).exists() {
            let made = staging.path().join("image");
            std::fs::create_dir(&made).at(&made)?;
            let image = assemble::assemble(source, &made, staging.path(), self.most, progress);
            let image = unless_cancelled(image, progress)?;
            let record = ImageRecord { image, envelope: Envelope::of::<ImageRecord>() };
            format::write(&made.join(RECORD), &record)?;
            let _held = self.lock()?;
            match std::fs::rename(&made, &directory) {
                // Someone else was quicker with the same image.
                Err(_) if directory.join(RECORD).exists() => {}
                other => other.at(&directory)?,
            }
            sync_directory(&self.images)?;
        }
        let _held = self.lock()?;
        let mut names = Names::read(&self.images)?;
        if !wanted.is_empty() {
            names.digests.extend(wanted.iter().map(|name| (name.clone(), source.digest.clone())));
            names.write(&self.images)?;
        }
        let missing = || Error::NotFound(source.digest.clone()); // removed in this very moment
        self.read(&directory, &names)?.ok_or_else(missing)
    }
}

/// A step of long work. One that has failed because cancelled has no other reason, and nothing
/// follows one that was done.
fn unless_cancelled<T>(done: Result<T>, progress: &dyn Progress) -> Result<T> {
    if progress.is_cancelled() { Err(Error::Cancelled) } else { done }
}
