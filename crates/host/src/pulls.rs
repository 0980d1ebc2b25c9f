//! Pulls that a server was asked for: their records, one for each name, which a later server finds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hypeman_files::{AtPath, Lock};
use hypeman_image::{Image, Login, Progress as Told, PullRequest, whole_name};
use hypeman_record::format::{self, Envelope};
use hypeman_record::kind::Kind;
use hypeman_record::pull::{Progress, Pull};
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::host::Host;

/// Ends of the names of a record and of its lock.
const RECORD: &str = "json";
const LOCK: &str = "lock";

impl Host {
    /// Lists the records of pulls. One that cannot be read is left out: an image can be asked for
    /// again.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn pulls(&self) -> Result<Vec<Pull>> {
        let files = hypeman_files::entries(&self.data_dir().pulls())?;
        let records = files.iter().filter(|file| file.extension().is_some_and(|end| end == RECORD));
        Ok(records.filter_map(|file| format::read(file).ok().flatten()).collect())
    }

    /// Returns the record of the pull of an image, by its whole name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pull(&self, name: &str) -> Result<Option<Pull>> {
        Ok(format::read(&self.pull_file(name, RECORD))?)
    }

    /// Records that an image shall be pulled. Another record of its name is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ask_for_pull(
        &self,
        name: &str,
        digest: &str,
        tags: BTreeMap<String, String>,
        has_credentials: bool,
    ) -> Result<Pull> {
        let pull = Pull {
            name: whole_name(name)?,
            digest: digest.to_owned(),
            tags,
            asked: Timestamp::now(),
            has_credentials,
            progress: Progress::Asked,
            envelope: Envelope::of::<Pull>(),
        };
        self.write_pull(&pull)?;
        Ok(pull)
    }

    /// Carries out a pull, and records its end. `None` when another process does so already.
    ///
    /// # Errors
    /// As [`Host::pull_image`].
    pub fn carry_out_pull(
        &self,
        pull: &Pull,
        login: Option<Login>,
        progress: &dyn Told,
    ) -> Result<Option<Image>> {
        let Some(_alone) = Lock::try_acquire(&self.pull_file(&pull.name, LOCK))? else { return Ok(None) };
        let request = PullRequest { reference: pull.name.clone(), digest: Some(pull.digest.clone()), login };
        let pulled = self.pull_image(&request, None, progress);
        self.end_pull(pull, pulled.as_ref().err())?;
        pulled.map(Some)
    }

    /// Records the end of a pull.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_pull(&self, pull: &Pull, error: Option<&Error>) -> Result<()> {
        let progress = match error {
            None => Progress::Done,
            Some(error) => Progress::Failed { kind: error.kind(), reason: hypeman_files::with_causes(error) },
        };
        match progress {
            Progress::Done if pull.tags.is_empty() => self.forget_pull(&pull.name),
            Progress::Failed { kind: Kind::Cancelled, .. } => self.forget_pull(&pull.name),
            progress => self.write_pull(&Pull { progress, ..pull.clone() }),
        }
    }

    /// Removes the record of a pull, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_pull(&self, name: &str) -> Result<()> {
        let path = self.pull_file(name, RECORD);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed.at(&path)?),
        }
    }

    fn write_pull(&self, pull: &Pull) -> Result<()> {
        let directory = self.data_dir().pulls();
        std::fs::create_dir_all(&directory).at(&directory)?;
        Ok(format::write(&self.pull_file(&pull.name, RECORD), pull)?)
    }

    /// A file of the pull of an image. Its name may have slashes, and be longer than that of a file.
    fn pull_file(&self, name: &str, end: &str) -> PathBuf {
        let hash = hypeman_image::digest_of(name.as_bytes());
        self.data_dir().pulls().join(format!("{}.{end}", hash.trim_start_matches("sha256:")))
    }
}
