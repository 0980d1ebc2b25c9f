//! cp and export: files between a guest and here.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hypeman_agent::names::{from_text, to_text};
use hypeman_host::Host;
use hypeman_host::instance::Instance;
use hypeman_image::Progress as _;
use hypeman_session::copy::{Count, From, Into, Options};
use hypeman_session::plan::Side;

use crate::args::{CopyArguments, ExportArguments};
use crate::background::runtime;
use crate::progress::Terminal;
use crate::{agent, output};

/// Files that a copy left out, in a sentence.
type LeftOut = hypeman_session::Result<Option<String>>;

pub(crate) fn copy(host: &Host, arguments: &CopyArguments) -> Result<()> {
    let (source, target) = (to_text(&arguments.source), to_text(&arguments.target));
    let options = Options { archive: arguments.archive, follow_link: arguments.follow_link };
    let count = |is_stream| progress(arguments, is_stream);
    let (instance, left_out) = match (Side::of(&source), Side::of(&target)) {
        (Side::Guest(..), Side::Guest(..)) => {
            bail!("cannot copy between two instances; use two commands and a pipe, with `-` in each")
        }
        (Side::Guest(name, path), here) => {
            let instance = host.find(name)?;
            let (into, count) = match here {
                Side::Here(target) => (Into::Path(from_text(target).into()), count(false)),
                _ => (Into::Stream(standard_output()?), count(true)),
            };
            let left_out = host.visit(&instance, |instance| -> Result<_> {
                Ok(runtime()?.block_on(host.guest(instance).fetch(path, into, options, count)))
            });
            (instance, left_out??)
        }
        (here, Side::Guest(name, path)) => {
            let instance = host.find(name)?;
            let left_out = host.visit(&instance, |instance| -> Result<_> {
                let (from, count) = match here {
                    Side::Here(source) => (From::Path(from_text(source).into()), count(false)),
                    // docker's takes compressed ones too; here all that images may come in.
                    _ => (From::Stream(Box::new(Archive(None))), count(true)),
                };
                Ok(runtime()?.block_on(host.guest(instance).send(from, path, options, count)))
            });
            (instance, left_out??)
        }
        _ => bail!("neither path is in an instance; write one as NAME:PATH"),
    };
    warn(left_out, &instance)
}

/// The archive on standard input, which is not touched before the guest takes it.
struct Archive(Option<Box<dyn Read + Send>>);

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let archive = match self.0.take() {
            Some(archive) => archive,
            None => hypeman_image::decompressed(std::io::stdin())?,
        };
        self.0.insert(archive).read(buffer)
    }
}

/// Shows what goes through, to people at a terminal.
fn progress(arguments: &CopyArguments, is_stream: bool) -> Count {
    if arguments.quiet || is_stream {
        return Box::new(|_| ());
    }
    let progress = Terminal::new();
    progress.start(&format!("{} -> {}", arguments.source.display(), arguments.target.display()), None);
    Box::new(move |bytes| progress.advance(bytes))
}

/// Standard output for a tar stream.
fn standard_output() -> Result<Box<dyn Write + Send>> {
    if std::io::stdout().is_terminal() {
        bail!("refusing to write a tar stream to a terminal; redirect it to a file or a pipe")
    }
    Ok(Box::new(std::io::stdout()))
}

/// Sends all files of a guest as a tar stream, as `docker export`.
pub(crate) fn export(host: &Host, arguments: &ExportArguments) -> Result<()> {
    let instance = host.find(&arguments.name)?;
    // Beside the file, which gets its name when it is whole.
    let file = arguments.output.as_deref().map(Draft::begin).transpose()?;
    let into: Box<dyn Write + Send> = match &file {
        Some(draft) => Box::new(draft.file.reopen().context("write to it")?),
        None => standard_output()?,
    };
    let options = Options { archive: true, follow_link: false };
    let guest = host.guest(&instance);
    let left_out = runtime()?.block_on(guest.fetch("/", Into::Stream(into), options, Box::new(|_| ())));
    warn(left_out, &instance)?;
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
fn warn(left_out: LeftOut, instance: &Instance) -> Result<()> {
    if let Some(note) = left_out.map_err(|error| agent::explained(error, instance))? {
        output::complain(format_args!("warning: {note}"));
    }
    Ok(())
}
