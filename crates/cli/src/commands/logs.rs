//! logs: what is on disk, and with `--follow` what comes.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use hypeman_console::reader::{Reader, Start};
use hypeman_host::Host;
use hypeman_host::instance::Instance;
use hypeman_host::watch::Watch;
use hypeman_session::follow::Follower;
use tokio::task::JoinSet;

use crate::args::{LogFormat, LogsArguments, Source, Tail};
use crate::background::runtime;
use crate::output;
use crate::view::{Options, View};

/// Read at once, in bytes.
const CHUNK: usize = 256 * 1024;

pub(crate) fn logs(host: &Host, arguments: &LogsArguments) -> Result<()> {
    let instances = arguments
        .names
        .iter()
        .map(|name| host.find_adopted(name))
        .collect::<hypeman_host::Result<Vec<_>>>()?;
    let logs = instances
        .into_iter()
        .enumerate()
        .map(|(index, instance)| Log::of(instance, arguments, index))
        .collect::<Result<Vec<_>>>()?;
    if !arguments.follow && !arguments.follow_restarts {
        return logs.into_iter().try_for_each(|mut log| {
            let _ = log.output.show(&mut Reader::open(&log.path, log.start)?)?;
            log.output.finish()
        });
    }
    let runtime = runtime()?;
    tokio::task::LocalSet::new().block_on(&runtime, follow(host, logs, arguments))
}

/// Follows all of them until they have ended, output closed, or no more is wanted.
async fn follow(host: &Host, logs: Vec<Log>, arguments: &LogsArguments) -> Result<()> {
    let mut followers = JoinSet::new();
    let until = arguments.until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
    for log in logs {
        let watch = host.watch(&log.instance.record.id)?;
        followers.spawn_local(log.follow(watch, arguments.follow_restarts, until));
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
    start: Start,
    output: Output,
}

impl Log {
    fn of(instance: Instance, arguments: &LogsArguments, index: usize) -> Result<Log> {
        let logs = instance.logs();
        let path = match arguments.source {
            Source::App => logs.app,
            Source::Vmm => logs.vmm,
            Source::Hypeman => logs.hypeman,
        };
        let lines = if let Tail::Lines(lines) = arguments.tail { Some(lines) } else { None };
        let start = Start { lines, since: arguments.since };
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
        Ok(Log { instance, path, start, output: Output::new(view)? })
    }

    /// Shows what comes until the instance ends or is removed, or for so long.
    async fn follow(mut self, mut watch: Watch, restarts: bool, limit: Option<Duration>) -> Result<()> {
        let ended = async move {
            match restarts {
                false => drop(watch.end().await), // one that is removed has ended too
                true => watch.removed().await,
            }
        };
        let mut log = Follower::open(&self.path, self.start, ended)?;
        let mut is_late = pin!(async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        });
        loop {
            if self.output.show(&mut log.reader)?.is_break() {
                break;
            }
            tokio::select! {
                more = log.more() => if !more? { break },
                () = &mut is_late => {
                    let _ = self.output.show(&mut log.reader)?; // all that was written by then
                    break;
                }
            }
        }
        self.output.finish()
    }
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

    /// Shows what has come, and tells of what was gone before it could be shown. Breaks when no
    /// more is wanted.
    pub(super) fn show(&mut self, reader: &mut Reader) -> Result<ControlFlow<()>> {
        loop {
            let count = reader.read(&mut self.chunk)?;
            match reader.take_missed() {
                0 => {}
                bytes => output::complain(format_args!(
                    "{bytes} bytes were rotated away unread; raise --log-max-size or \
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
