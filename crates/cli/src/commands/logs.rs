//! logs: what is on disk, and with `--follow` what comes.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use hypeman_console::reader::{Reader, Start};
use hypeman_console::watch::Watch;
use hypeman_instance::instance::Instance;
use hypeman_instance::stop;
use hypeman_record::names;
use tokio::task::JoinSet;

use super::adopt::find;
use crate::args::{LogFormat, LogsArguments, Source, Tail};
use crate::background::{in_background, runtime};
use crate::context::{Context, hypeman};
use crate::output;
use crate::view::{Options, View};

/// Read at once, in bytes.
const CHUNK: usize = 256 * 1024;

pub(crate) fn logs(context: &Context, arguments: &LogsArguments) -> Result<()> {
    let instances = arguments.names.iter().map(|name| find(context, name)).collect::<Result<Vec<_>>>()?;
    let mut logs = instances
        .into_iter()
        .enumerate()
        .map(|(index, instance)| Log::open(instance, arguments, index))
        .collect::<Result<Vec<_>>>()?;
    if !arguments.follow && !arguments.follow_restarts {
        return logs.iter_mut().try_for_each(|log| log.show().and_then(|_| log.output.finish()));
    }
    let runtime = runtime()?;
    tokio::task::LocalSet::new().block_on(&runtime, follow(logs, arguments))
}

/// Follows all of them until they have ended, nobody reads any more, or no more is wanted.
async fn follow(logs: Vec<Log>, arguments: &LogsArguments) -> Result<()> {
    let mut followers = JoinSet::new();
    let until = arguments.until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
    for mut log in logs {
        let restarts = arguments.follow_restarts;
        followers.spawn_local(async move {
            let is_late = async {
                match until {
                    Some(until) => tokio::time::sleep(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                followed = log.follow(restarts) => followed?,
                () = is_late => drop(log.show()?), // all that was written by then
            }
            log.output.finish()
        });
    }
    tokio::select! {
        result = async {
            while let Some(followed) = followers.join_next().await {
                followed.context("follow a log")??;
            }
            Ok(())
        } => result,
        _ = output::reader_gone() => Ok(()),
    }
}

/// An instance's log that is being shown.
#[derive(Debug)]
struct Log {
    instance: Instance,
    path: PathBuf,
    reader: Reader,
    output: Output,
}

impl Log {
    fn open(instance: Instance, arguments: &LogsArguments, index: usize) -> Result<Log> {
        let path = instance.directory.join(match arguments.source {
            Source::App => names::APP_LOG,
            Source::Vmm => names::VMM_LOG,
            Source::Hypeman => names::HYPEMAN_LOG,
        });
        let lines = if let Tail::Lines(lines) = arguments.tail { Some(lines) } else { None };
        let reader = Reader::open(&path, Start { lines, since: arguments.since })?;
        let options = Options {
            source: arguments.source,
            json: arguments.format == LogFormat::Json,
            timestamps: arguments.timestamps,
            raw: arguments.raw,
            until: arguments.until,
        };
        let mut view = View::new(options, &instance.record.name);
        if arguments.names.len() > 1 && !arguments.no_log_prefix {
            let width = arguments.names.iter().map(String::len).max().unwrap_or(0);
            view = view.with_prefix(index, width);
        }
        Ok(Log { instance, path, reader, output: Output::new(view)? })
    }

    fn show(&mut self) -> Result<ControlFlow<()>> {
        self.output.show(&mut self.reader)
    }

    /// Shows what comes until the instance ends, or until it is removed.
    async fn follow(&mut self, restarts: bool) -> Result<()> {
        if !restarts && !self.instance.observe()?.state.is_active() {
            return self.show().map(drop);
        }
        let mut watch = watch(&self.path)?;
        // An instance that is removed has ended too.
        let mut end = end(self.instance.clone(), restarts)?;
        loop {
            if self.show()?.is_break() {
                return Ok(());
            }
            tokio::select! {
                changed = watch.changed() => changed?,
                ended = &mut end => { ended?; break }
            }
        }
        // All that the guest printed was on disk before its end was told.
        self.show().map(drop)
    }
}

/// Waits for what ends a follower: the end of the instance, or only its removal.
fn end(instance: Instance, restarts: bool) -> Result<Pin<Box<dyn Future<Output = Result<()>>>>> {
    if !restarts {
        let hypeman = hypeman()?;
        let ended = in_background(move || drop(stop::wait(&instance, &hypeman)));
        return Ok(Box::pin(async {
            let _ = ended.await;
            Ok(())
        }));
    }
    let record = instance.directory.join(names::RECORD);
    let mut watch = Watch::on(&record)?;
    Ok(Box::pin(async move {
        while record.exists() {
            watch.changed().await?;
        }
        Ok(())
    }))
}

/// Watches a log, whose directory someone may have removed: whoever writes the log makes it again.
pub(super) fn watch(path: &Path) -> std::io::Result<Watch> {
    if let Some(directory) = path.parent() {
        let _ = std::fs::create_dir(directory);
    }
    Watch::on(path)
}

/// Where a log is shown.
#[derive(Debug)]
pub(super) struct Output {
    view: View,
    stdout: File,
    chunk: Vec<u8>,
    shown: Vec<u8>,
}

impl Output {
    pub(super) fn new(view: View) -> Result<Output> {
        // Not Rust's standard output, which keeps a line back until its end has come.
        let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Output { view, stdout: stdout.into(), chunk: vec![0; CHUNK], shown: Vec::new() })
    }

    /// Shows what has come, and tells of what was gone before it could be shown. Breaks when no more is wanted.
    pub(super) fn show(&mut self, reader: &mut Reader) -> Result<ControlFlow<()>> {
        loop {
            let count = reader.read(&mut self.chunk)?;
            match reader.take_missed() {
                0 => {}
                bytes => output::complain(format_args!(
                    "{bytes} bytes were rotated away before they were read; keep more of the log with --log-max-size or \
                     --log-max-files"
                )),
            }
            if count == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            let shown = self.view.show(reader, &self.chunk[..count], &mut self.shown);
            if shown.is_break() {
                self.finish()?; // also what began before, and has no end yet
                return Ok(shown);
            }
            self.write()?;
        }
    }

    /// Shows what comes from now on in another view.
    pub(super) fn change(&mut self, view: View) -> Result<()> {
        self.finish()?;
        self.view = view;
        Ok(())
    }

    /// Shows what waits for its end, when nothing more comes.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.view.finish(&mut self.shown);
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let written = self.stdout.write_all(&self.shown);
        self.shown.clear();
        Ok(written?)
    }
}
