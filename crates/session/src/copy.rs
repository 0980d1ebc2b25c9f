//! Files between a guest and here, by docker cp's rules
//! (docs.docker.com/reference/cli/docker/container/cp).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hypeman_agent::names::{from_text, to_text};
use hypeman_agent::protocol::{Copied, Found, Request};
use hypeman_agent::{brief, data, frames};
use hypeman_copy::{LeftOut, Links, Trust};
use tokio::net::UnixStream;

use crate::background::in_background;
use crate::error::{Error, Result, What};
use crate::guest::{Guest, in_time};
use crate::plan::{self, Known, Plan};

/// Maximum number of links on the way to a target, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Target of a copy from a guest.
pub enum Into {
    /// Files at a path here.
    Path(PathBuf),
    /// A tar stream.
    Stream(Box<dyn Write + Send>),
}

/// Source of a copy to a guest.
pub enum From {
    /// Files at a path here.
    Path(PathBuf),
    /// A tar stream.
    Stream(Box<dyn Read + Send>),
}

/// Options of a copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep the owners of the source; else root's in the guest, and the user's own here.
    pub archive: bool,
    /// Follow a link at the end of the source's path.
    pub follow_link: bool,
}

/// Callback with the size of each copied piece in bytes, for a progress bar.
pub type Count = Box<dyn Fn(u64) + Send>;

impl Guest {
    /// Copies from the guest to here; returns what was left out, in a sentence.
    ///
    /// # Errors
    /// When there is nothing at the path, or it cannot be read there or written here, or the
    /// connection breaks.
    pub async fn fetch(
        &self,
        path: &str,
        into: Into,
        options: Options,
        count: Count,
    ) -> Result<Option<String>> {
        let found = self.look(path, options.follow_link).await?;
        if !found.exists {
            return Err(self.unfit(path, "no such file"));
        }
        let plan = match &into {
            Into::Path(target) => plan_here(path, found.is_dir, target)?,
            Into::Stream(_) => Plan { directory: String::new(), name: plan::base(path).to_owned() },
        };
        let mut stream = self.connect().await?;
        let name = plan.name.clone();
        begin(&mut stream, &Request::Read { path: path.to_owned(), follow: options.follow_link, name })
            .await?;
        let (source, pieces) = data::source();
        let mut source = Counted { inner: source, count };
        let trust = Trust { owners: options.archive, devices: false, links: Links::Refused };
        let written = in_background(move || -> std::io::Result<LeftOut> {
            let Into::Stream(mut into) = into else {
                let (directory, name) = (from_text(&plan.directory), from_text(&plan.name));
                return hypeman_copy::unpack(source, Path::new(&directory), Path::new(&name), trust);
            };
            std::io::copy(&mut source, &mut into)?;
            into.flush()?;
            Ok(LeftOut::default())
        });
        let received = data::receive(&mut stream, pieces).await;
        let written = written.await.map_err(std::io::Error::other).what("write the copy")?;
        // A writer that has only heard that it breaks off does not know why.
        if written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof) {
            received?;
        }
        let left_out = written?;
        let note = outcome(frames::read_message(&mut stream).await?)?;
        Ok(note.or_else(|| left_out.told()))
    }

    /// Copies from here to the guest; returns what was left out, in a sentence.
    ///
    /// # Errors
    /// As [`Guest::fetch`].
    pub async fn send(
        &self,
        from: From,
        path: &str,
        options: Options,
        count: Count,
    ) -> Result<Option<String>> {
        let plan = match &from {
            From::Path(source) => self.plan_there(source, path, options.follow_link).await?,
            From::Stream(_) => Plan { directory: path.to_owned(), name: String::new() },
        };
        let mut stream = self.connect().await?;
        begin(&mut stream, &Request::Write { path: plan.directory, archive: options.archive }).await?;
        let (sink, pieces) = data::pipe();
        let mut sink = Counted { inner: sink, count };
        let packed = in_background(move || -> std::io::Result<LeftOut> {
            match from {
                From::Path(path) => {
                    hypeman_copy::pack(&path, Path::new(&from_text(&plan.name)), options.follow_link, sink)
                }
                From::Stream(mut archive) => {
                    std::io::copy(&mut archive, &mut sink)?;
                    Ok(LeftOut::default())
                }
            }
        });
        let (mut reader, mut writer) = stream.split();
        let sending = async {
            data::send(pieces, &mut writer).await?;
            let packed = packed.await.map_err(std::io::Error::other).what("read the source")?;
            Ok::<_, Error>(packed?)
        };
        let mut word = std::pin::pin!(frames::read_message(&mut reader));
        let left_out = tokio::select! {
            sent = sending => sent?,
            // It knows already that it cannot.
            word = &mut word => return outcome(word?),
        };
        let note = outcome(word.await?)?;
        Ok(note.or_else(|| left_out.told()))
    }

    async fn look(&self, path: &str, follow: bool) -> Result<Found> {
        let found = self.stat(path, follow).await?;
        match &found.error {
            Some(error) => Err(self.unfit(path, &brief(error))),
            None => Ok(found),
        }
    }

    async fn plan_there(&self, here: &Path, path: &str, follow: bool) -> Result<Plan> {
        let source = to_text(here.as_os_str());
        let shown = here.display().to_string();
        let found = if follow || source.ends_with('/') { here.metadata() } else { here.symlink_metadata() };
        let source_is_dir = found.what(&shown)?.is_dir();
        // A source called `..` has a name all the same.
        let source = match plan::base(&source) {
            ".." => to_text(std::fs::canonicalize(here).what(&shown)?.as_os_str()),
            _ => source,
        };
        let mut target = path.to_owned();
        for _ in 0..MAX_LINKS {
            let found = self.look(&target, false).await?;
            if let Some(leads_to) = found.link_target {
                target = match leads_to.starts_with('/') {
                    true => leads_to,
                    false => format!("{}/{leads_to}", plan::parent(&target)),
                };
                continue;
            }
            let parent = self.look(plan::parent(&target), true).await?;
            let target_is_dir = found.exists.then_some(found.is_dir);
            return plan::plan(Known {
                source: &source,
                source_is_dir,
                target: &target,
                target_is_dir,
                parent_is_dir: parent.is_dir,
            });
        }
        Err(self.unfit(path, "too many links"))
    }

    /// Something in the guest cannot be used.
    fn unfit(&self, path: &str, reason: &str) -> Error {
        let path = format!("{}:{}", self.name, from_text(path).display());
        Error::Path { path, reason: reason.to_owned() }
    }
}

/// Requests a copy and waits until it begins.
async fn begin(stream: &mut UnixStream, request: &Request) -> Result<()> {
    frames::write_message(stream, request).await?;
    match in_time(frames::read_message(stream)).await? {
        Copied::Begins => Ok(()),
        Copied::Failed(failure) => Err(Error::Guest(failure)),
        other @ Copied::Done { .. } => Err(Error::unexpected(&other)),
    }
}

/// The guest's last message.
fn outcome(word: Copied) -> Result<Option<String>> {
    match word {
        Copied::Done { note } => Ok(note.map(|note| brief(&note))),
        Copied::Failed(failure) => Err(Error::Guest(failure)),
        Copied::Begins => Err(Error::unexpected(&word)),
    }
}

fn plan_here(source: &str, source_is_dir: bool, target: &Path) -> Result<Plan> {
    let found = std::fs::metadata(target).ok().map(|found| found.is_dir());
    let ends_as_directory = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    // A link is written through, and not replaced.
    let through = match found {
        Some(false) if !ends_as_directory => {
            std::fs::canonicalize(target).what(target.display().to_string())?
        }
        _ => target.to_owned(),
    };
    let through = to_text(through.as_os_str());
    plan::plan(Known {
        source,
        source_is_dir,
        target: &through,
        target_is_dir: found,
        parent_is_dir: Path::new(&from_text(plan::parent(&through))).is_dir(),
    })
}

/// Reader or writer that counts bytes.
struct Counted<T> {
    inner: T,
    count: Count,
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.count)(count as u64);
        Ok(count)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        (self.count)(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
