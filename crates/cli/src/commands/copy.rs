//! cp and export: files between a guest and here, by docker cp's rules
//! (docs.docker.com/reference/cli/docker/container/cp).

mod plan;

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hypeman_agent::names::{from_text, to_text};
use hypeman_agent::protocol::{Copied, Found, Request};
use hypeman_agent::{brief, data, frames};
use hypeman_copy::{LeftOut, Links, Trust};
use hypeman_image::Progress as _;
use hypeman_instance::instance::Instance;
use hypeman_instance::visit;
use hypeman_record::state::State;
use tokio::net::UnixStream;

use self::plan::{Known, Plan, Side};
use crate::args::{CopyArguments, ExportArguments};
use crate::background::{in_background, runtime};
use crate::context::{Context, programs};
use crate::progress::Terminal;
use crate::{agent, output};

/// Most links that lead to a target, as Linux has it (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Target of a copy from a guest.
enum Into {
    /// Apart, to a path here.
    Path(PathBuf),
    /// As it comes, to standard output or a file.
    Stream(Box<dyn Write + Send>),
}

pub(crate) fn copy(context: &Context, arguments: &CopyArguments) -> Result<()> {
    let (source, target) = (to_text(&arguments.source), to_text(&arguments.target));
    let (instance, note) = match (Side::of(&source), Side::of(&target)) {
        (Side::Guest(..), Side::Guest(..)) => {
            bail!("nothing is copied between two instances; join two commands by a pipe, with `-` in each")
        }
        (Side::Guest(name, path), here) => {
            let instance = context.instances.find(name)?;
            let into = match here {
                Side::Here(target) => Into::Path(from_text(target).into()),
                _ => Into::Stream(standard_output()?),
            };
            let note = inside(context, &instance, |instance| {
                runtime()?.block_on(fetch(instance, path, into, arguments))
            });
            (instance, note)
        }
        (here, Side::Guest(name, path)) => {
            let instance = context.instances.find(name)?;
            let note = inside(context, &instance, |instance| {
                runtime()?.block_on(send(instance, here, path, arguments))
            });
            (instance, note)
        }
        _ => bail!("neither side is in an instance; give one as NAME:PATH"),
    };
    warn(note, &instance)
}

/// Does something in an instance that runs, or that was never started, as docker's `cp` does.
fn inside<T>(context: &Context, instance: &Instance, work: impl FnOnce(&Instance) -> Result<T>) -> Result<T> {
    if instance.record.command.is_none() || instance.observe()?.state != State::Created {
        return work(instance);
    }
    visit::visit(&context.instances, instance, &programs()?, work)?
}

/// Standard output for a tar stream.
fn standard_output() -> Result<Box<dyn Write + Send>> {
    if std::io::stdout().is_terminal() {
        bail!("a tar stream is nothing for a terminal; send it to a file or a pipe")
    }
    Ok(Box::new(std::io::stdout()))
}

/// Sends all files of a guest as a tar stream, as `docker export`.
pub(crate) fn export(context: &Context, arguments: &ExportArguments) -> Result<()> {
    let instance = context.instances.find(&arguments.name)?;
    // Beside the file, which gets its name when it is whole.
    let file = arguments.output.as_deref().map(Draft::begin).transpose()?;
    let into: Box<dyn Write + Send> = match &file {
        Some(draft) => Box::new(draft.file.reopen().context("write to it")?),
        None => standard_output()?,
    };
    let usual = CopyArguments {
        archive: true,
        follow_link: false,
        quiet: true,
        source: arguments.name.clone().into(),
        target: "-".into(),
    };
    let note = runtime()?.block_on(fetch(&instance, "/", Into::Stream(into), &usual));
    warn(note, &instance)?;
    file.map_or(Ok(()), Draft::publish)
}

/// A file that is being written.
struct Draft {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Draft {
    fn begin(path: &Path) -> Result<Draft> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")));
        Ok(Draft { file: file.with_context(|| path.display().to_string())?, path: path.to_owned() })
    }

    fn publish(self) -> Result<()> {
        self.file.persist(&self.path).with_context(|| self.path.display().to_string())?;
        Ok(())
    }
}

/// Tells what was left out.
fn warn(note: Result<Option<String>>, instance: &Instance) -> Result<()> {
    if let Some(note) = note.map_err(|error| agent::explained(error, instance))? {
        output::complain(format_args!("warning: {note}"));
    }
    Ok(())
}

/// From the guest to here; what was left out.
async fn fetch(
    instance: &Instance,
    path: &str,
    into: Into,
    arguments: &CopyArguments,
) -> Result<Option<String>> {
    let found = look(instance, path, arguments.follow_link).await?;
    if !found.exists {
        bail!("{}: {}: there is nothing", instance.record.name, from_text(path).display());
    }
    let plan = match &into {
        Into::Path(target) => plan_here(path, found.is_dir, target)?,
        Into::Stream(_) => Plan { directory: String::new(), name: plan::base(path).to_owned() },
    };
    let mut stream = agent::connect(instance)?;
    let name = plan.name.clone();
    begin(&mut stream, &Request::Read { path: path.to_owned(), follow: arguments.follow_link, name }).await?;
    let (source, pieces) = data::source();
    let mut source = Counted::new(source, arguments, matches!(into, Into::Stream(_)));
    let trust = Trust { owners: arguments.archive, devices: false, links: Links::Refused };
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
    let written = written.await.context("write what was copied")?;
    // A writer that has only heard that it breaks off does not know why.
    if written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof) {
        received?;
    }
    let left_out = written?;
    let note = outcome(frames::read_message(&mut stream).await?)?;
    Ok(note.or_else(|| left_out.told()))
}

/// From here to the guest; what was left out.
async fn send(
    instance: &Instance,
    from: Side<'_>,
    path: &str,
    arguments: &CopyArguments,
) -> Result<Option<String>> {
    let (plan, source) = match from {
        Side::Here(source) => {
            let plan = plan_in_guest(instance, source, path, arguments.follow_link).await?;
            (plan, Some(PathBuf::from(from_text(source))))
        }
        _ => (Plan { directory: path.to_owned(), name: String::new() }, None),
    };
    let mut stream = agent::connect(instance)?;
    begin(&mut stream, &Request::Write { path: plan.directory, archive: arguments.archive }).await?;
    let (sink, pieces) = data::pipe();
    let mut sink = Counted::new(sink, arguments, source.is_none());
    let follow = arguments.follow_link;
    let packed = in_background(move || -> std::io::Result<LeftOut> {
        if let Some(path) = source {
            return hypeman_copy::pack(&path, Path::new(&from_text(&plan.name)), follow, sink);
        }
        // docker's takes compressed ones too; here all that images may come in.
        std::io::copy(&mut hypeman_image::decompressed(&mut std::io::stdin().lock())?, &mut sink)?;
        Ok(LeftOut::default())
    });
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        data::send(pieces, &mut writer).await?;
        Ok::<_, anyhow::Error>(packed.await.context("read what is to be copied")??)
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

/// Asks for a copy that then begins.
async fn begin(stream: &mut UnixStream, request: &Request) -> Result<()> {
    frames::write_message(stream, request).await?;
    match frames::read_message(stream).await? {
        Copied::Begins => Ok(()),
        Copied::Failed(failure) => bail!("the guest says: {failure}"),
        Copied::Done { .. } => bail!("the guest's agent is done before it has begun"),
    }
}

/// The guest's last word.
fn outcome(word: Copied) -> Result<Option<String>> {
    match word {
        Copied::Done { note } => Ok(note.map(|note| brief(&note))),
        Copied::Failed(failure) => bail!("the guest says: {failure}"),
        Copied::Begins => bail!("the guest's agent repeats itself"),
    }
}

async fn look(instance: &Instance, path: &str, follow: bool) -> Result<Found> {
    let found: Found = agent::ask(instance, &Request::Stat { path: path.to_owned(), follow }).await?;
    match &found.error {
        Some(error) => {
            bail!("{}: {}: {}", instance.record.name, from_text(path).display(), brief(error))
        }
        None => Ok(found),
    }
}

fn plan_here(source: &str, source_is_dir: bool, target: &Path) -> Result<Plan> {
    let found = std::fs::metadata(target).ok().map(|found| found.is_dir());
    let ends_as_directory = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    // A link is written through, and not replaced.
    let through = match found {
        Some(false) if !ends_as_directory => {
            std::fs::canonicalize(target).with_context(|| target.display().to_string())?
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

async fn plan_in_guest(instance: &Instance, source: &str, path: &str, follow: bool) -> Result<Plan> {
    let here = PathBuf::from(from_text(source));
    let found = if follow || source.ends_with('/') { here.metadata() } else { here.symlink_metadata() };
    let source_is_dir = found.with_context(|| here.display().to_string())?.is_dir();
    // What is called `..` has a name all the same.
    let full = match plan::base(source) {
        ".." => Some(std::fs::canonicalize(&here).with_context(|| here.display().to_string())?),
        _ => None,
    };
    let full = full.map(|full| to_text(full.as_os_str()));
    let source = full.as_deref().unwrap_or(source);
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        let found = look(instance, &target, false).await?;
        if let Some(leads_to) = found.link_target {
            target = match leads_to.starts_with('/') {
                true => leads_to,
                false => format!("{}/{leads_to}", plan::parent(&target)),
            };
            continue;
        }
        let parent = look(instance, plan::parent(&target), true).await?;
        let target_is_dir = found.exists.then_some(found.is_dir);
        let known =
            Known { source, source_is_dir, target: &target, target_is_dir, parent_is_dir: parent.is_dir };
        return plan::plan(known);
    }
    bail!("{}: {}: too many links", instance.record.name, from_text(path).display())
}

/// What goes through is counted, for people at a terminal.
struct Counted<T> {
    inner: T,
    progress: Option<Terminal>,
}

impl<T> Counted<T> {
    fn new(inner: T, arguments: &CopyArguments, is_stream: bool) -> Counted<T> {
        let progress = (!arguments.quiet && !is_stream).then(Terminal::new);
        if let Some(progress) = &progress {
            let (source, target) = (arguments.source.display(), arguments.target.display());
            progress.start(&format!("{source} -> {target}"), None);
        }
        Counted { inner, progress }
    }

    fn count(&self, bytes: usize) {
        if let Some(progress) = &self.progress {
            progress.advance(bytes as u64);
        }
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count(count);
        Ok(count)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count(count);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
