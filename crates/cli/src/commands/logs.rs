//! logs: what is on disk, and with `--follow` what comes.

use std::io::Write;

use anyhow::Result;
use hypeman_console::reader::{Follower, Start};
use hypeman_console::watch::Watch;
use hypeman_instance::stop;
use hypeman_record::names;

use super::adopt::find;
use super::{in_background, runtime};
use crate::args::{Source, Tail};
use crate::context::{Context, hypeman};
use crate::output;

pub(crate) fn logs(context: &Context, name: &str, source: Source, tail: Tail, follow: bool) -> Result<()> {
    let instance = find(context, name)?;
    let path = instance.directory.join(match source {
        Source::App => names::APP_LOG,
        Source::Vmm => names::VMM_LOG,
        Source::Hypeman => names::HYPEMAN_LOG,
    });
    let start = match tail {
        Tail::All => Start::Beginning,
        Tail::Lines(lines) => Start::Lines(lines),
    };
    let mut follower = Follower::open(&path, start)?;
    let mut stdout = std::io::stdout().lock();
    if !follow || !instance.observe()?.state.is_active() {
        return read(&mut follower, &mut stdout);
    }
    if let Some(directory) = path.parent() {
        // Someone may have removed it; whoever writes the log makes it again.
        let _ = std::fs::create_dir(directory);
    }
    runtime()?.block_on(async {
        let mut watch = Watch::on(&path)?;
        let mut reader_gone = output::reader_gone();
        let hypeman = hypeman()?;
        // An instance that is removed has ended too.
        let mut ended = in_background(move || stop::wait(&instance, &hypeman));
        loop {
            read(&mut follower, &mut stdout)?;
            tokio::select! {
                changed = watch.changed() => changed?,
                _ = &mut reader_gone => return Ok(()),
                _ = &mut ended => break,
            }
        }
        // All that the guest printed was on disk before its end was told.
        read(&mut follower, &mut stdout)
    })
}

/// Shows what has come, and tells of what was gone before it could be shown.
pub(super) fn read(follower: &mut Follower, out: &mut impl Write) -> Result<()> {
    follower.read_available(out)?;
    match follower.take_missed() {
        0 => {}
        bytes => output::complain(format_args!(
            "{bytes} bytes were rotated away before they were read; keep more of the log with --log-max-size or \
             --log-max-files"
        )),
    }
    Ok(())
}
