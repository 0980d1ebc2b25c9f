//! cp: files between a guest and here, by docker cp's rules (docs.docker.com/reference/cli/docker/container/cp).

mod plan;

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hypeman_agent::protocol::{Copied, Found, Request};
use hypeman_agent::{data, frames};
use hypeman_copy::{LeftOut, Trust};
use hypeman_image::Progress as _;
use hypeman_instance::store::Instance;
use tokio::net::UnixStream;

use self::plan::{Known, Plan, Side};
use super::{in_background, runtime};
use crate::args::CopyArguments;
use crate::context::Context;
use crate::progress::Terminal;
use crate::{agent, output};

/// Most links that lead to a target, as Linux has it (path_resolution(7)).
const MAX_LINKS: usize = 40;

pub(crate) fn copy(context: &Context, arguments: &CopyArguments) -> Result<()> {
    let (instance, note) = match (Side::of(&arguments.source), Side::of(&arguments.target)) {
        (Side::Guest(..), Side::Guest(..)) => {
            bail!("nothing is copied between two instances; join two commands by a pipe, with `-` in each")
        }
        (Side::Guest(name, path), here) => {
            let instance = context.instances.find(name)?;
            let note = runtime()?.block_on(fetch(&instance, path, here, arguments));
            (instance, note)
        }
        (here, Side::Guest(name, path)) => {
            let instance = context.instances.find(name)?;
            let note = runtime()?.block_on(send(&instance, here, path, arguments));
            (instance, note)
        }
        _ => bail!("neither side is in an instance; give one as NAME:PATH"),
    };
    if let Some(note) = note.map_err(|error| agent::explained(error, &instance))? {
        output::complain(format_args!("warning: {note}"));
    }
    Ok(())
}

/// From the guest to here; what was left out.
async fn fetch(
    instance: &Instance,
    path: &str,
    to: Side<'_>,
    arguments: &CopyArguments,
) -> Result<Option<String>> {
    let found = look(instance, path, arguments.follow_link).await?;
    if !found.exists {
        bail!("{}: {path}: there is nothing", instance.record.name);
    }
    let plan = match to {
        Side::Here(target) => plan_here(path, found.is_dir, target)?,
        _ if std::io::stdout().is_terminal() => {
            bail!("a tar stream is nothing for a terminal; send it to a file or a pipe")
        }
        _ => Plan { directory: String::new(), name: plan::base(path).to_owned() },
    };
    let mut stream = agent::connect(instance)?;
    let name = plan.name.clone();
    begin(&mut stream, &Request::Read { path: path.to_owned(), follow: arguments.follow_link, name }).await?;
    let (source, pieces) = data::source();
    let is_stream = to == Side::Stream;
    let mut source = Counted::new(source, arguments, is_stream);
    let trust = Trust { owners: arguments.archive, devices: false };
    let written = in_background(move || -> std::io::Result<LeftOut> {
        if !is_stream {
            return hypeman_copy::unpack(source, Path::new(&plan.directory), Path::new(&plan.name), trust);
        }
        let mut stdout = std::io::stdout().lock();
        std::io::copy(&mut source, &mut stdout)?;
        stdout.flush()?;
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
            (plan, Some(PathBuf::from(source)))
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
            return hypeman_copy::pack(&path, Path::new(&plan.name), follow, sink);
        }
        std::io::copy(&mut std::io::stdin().lock(), &mut sink)?;
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
        Copied::Done { note } => Ok(note),
        Copied::Failed(failure) => bail!("the guest says: {failure}"),
        Copied::Begins => bail!("the guest's agent repeats itself"),
    }
}

async fn look(instance: &Instance, path: &str, follow: bool) -> Result<Found> {
    let found: Found = agent::ask(instance, &Request::Stat { path: path.to_owned(), follow }).await?;
    match &found.error {
        Some(error) => bail!("{}: {path}: {error}", instance.record.name),
        None => Ok(found),
    }
}

fn plan_here(source: &str, source_is_dir: bool, target: &str) -> Result<Plan> {
    let found = std::fs::metadata(target).ok().map(|found| found.is_dir());
    // A link is written through, and not replaced.
    let through = match found {
        Some(false) => std::fs::canonicalize(target).with_context(|| target.to_owned())?,
        _ => PathBuf::from(target),
    };
    let through = through.to_str().with_context(|| format!("{}: it is no text", through.display()))?;
    let through = if found == Some(false) && target.ends_with('/') { target } else { through };
    plan::plan(Known {
        source,
        source_is_dir,
        target: through,
        target_is_dir: found,
        parent_is_dir: Path::new(plan::parent(through)).is_dir(),
    })
}

async fn plan_in_guest(instance: &Instance, source: &str, path: &str, follow: bool) -> Result<Plan> {
    let here = Path::new(source);
    let found = if follow || source.ends_with('/') { here.metadata() } else { here.symlink_metadata() };
    let source_is_dir = found.with_context(|| source.to_owned())?.is_dir();
    // What is called `..` has a name all the same.
    let full = match plan::base(source) {
        ".." => Some(std::fs::canonicalize(here).with_context(|| source.to_owned())?),
        _ => None,
    };
    let source = full.as_ref().and_then(|full| full.to_str()).unwrap_or(source);
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
    bail!("{}: {path}: too many links", instance.record.name)
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
            progress.start(&format!("{} -> {}", arguments.source, arguments.target), None);
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
