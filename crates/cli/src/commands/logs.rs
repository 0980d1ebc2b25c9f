//! logs: what is on disk, and with `--follow` what comes.

use anyhow::Result;
use hypeman_console::reader::{Follower, Start};
use hypeman_console::watch::Watch;
use hypeman_instance::layout::names;
use hypeman_instance::stop;

use super::{in_background, runtime};
use crate::args::{Source, Tail};
use crate::context::Context;

pub(crate) fn logs(context: &Context, name: &str, source: Source, tail: Tail, follow: bool) -> Result<()> {
    let instance = context.instances.find(name)?;
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
        follower.read_available(&mut stdout)?;
        return Ok(());
    }
    runtime()?.block_on(async {
        let mut watch = Watch::on(&path)?;
        let mut ended = in_background(move || stop::wait(&instance));
        loop {
            follower.read_available(&mut stdout)?;
            tokio::select! {
                changed = watch.changed() => changed?,
                _ = &mut ended => break,
            }
        }
        // All that the guest printed was on disk before its end was told.
        follower.read_available(&mut stdout)?;
        Ok(())
    })
}
