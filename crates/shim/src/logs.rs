//! The two logs of a VM, and the tasks that bring into them what the guest and the VMM print.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hypeman_console::buffer::Buffer;
use hypeman_console::capture::capture;
use hypeman_console::event::Event;
use hypeman_console::line::{Line, capture_line};
use hypeman_console::log::{Limits, Log};
use hypeman_console::settle;
use hypeman_console::writer::Writer;
use hypeman_record::kind::Kind;
use hypeman_record::launch::Launch;
use hypeman_record::names;
use hypeman_record::protocol::Counts;
use hypeman_vmm::vm::{Console, Vm};
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, StartContext};
use crate::journal::Journal;
use crate::keep::{self, Keep};
use crate::shared::Shared;
use crate::vm;

/// Pause before a log or a line is opened again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// The limits of each log.
pub(crate) fn limits(launch: &Launch) -> Limits {
    Limits { max_size: launch.log.max_size, max_files: launch.log.max_files }
}

/// Opens a log; without its logs a VM is not started.
pub(crate) fn open(launch: &Launch, name: &str) -> Result<Writer> {
    let log = Log::open(Path::new(name), limits(launch)).start("open the log")?;
    Ok(as_ordered(launch, Writer::new(log, Buffer::new().start("open the log")?)))
}

/// A writer that waits for the disk, or does not.
fn as_ordered(launch: &Launch, writer: Writer) -> Writer {
    let loses_beyond = launch.log.loses_beyond().and_then(|bytes| usize::try_from(bytes).ok());
    if let Some(bytes) = loses_beyond { writer.losing_beyond(bytes) } else { writer }
}

/// Goes on with the console's log where another shim was stopped, and with the memory of what that
/// had read. Without it, or when it cannot be used, only with the log, and says so.
pub(crate) fn take_over(
    launch: &Launch,
    memory: Option<Result<OwnedFd>>,
    journal: &Journal,
) -> Result<Writer> {
    let memory = memory
        .unwrap_or_else(|| Err(Error::new(Kind::Unsupported, "the VM was started by an older release")));
    let resumed = memory.and_then(|memory| {
        settle::resume(Path::new(names::APP_LOG), limits(launch), memory).start("go on with the log")
    });
    match resumed {
        Ok((writer, doubt)) => {
            if let Some(doubt) = doubt {
                journal.note(format_args!("{}: {doubt}", names::APP_LOG));
            }
            Ok(as_ordered(launch, writer))
        }
        Err(error) => {
            journal.note(format_args!(
                "{}: output that the last shim had read and not written is missing: {error}",
                names::APP_LOG
            ));
            open(launch, names::APP_LOG)
        }
    }
}

/// A task that brings what comes from a source into a log.
#[derive(Debug)]
pub(crate) struct Keeper {
    gone: CancellationToken,
    /// Until it has given the log back.
    task: Option<JoinHandle<Option<Writer>>>,
}

impl Keeper {
    fn start<F: Future<Output = Option<Writer>> + 'static>(
        keep: impl FnOnce(CancellationToken) -> F,
    ) -> Keeper {
        let gone = CancellationToken::new();
        Keeper { task: Some(spawn_local(keep(gone.clone()))), gone }
    }

    /// Nothing comes any more but what has come by now.
    pub(crate) fn stop(&self) {
        self.gone.cancel();
    }

    /// Waits until all is written that had come when it was stopped, and gives the log back, once,
    /// unless a fault of ours has lost it.
    pub(crate) async fn finish(&mut self) -> Option<Writer> {
        let log = self.task.as_mut()?.await;
        self.task = None; // only now: whoever waits may give up, and wait again
        log.ok().flatten()
    }

    /// Ends it, also when something is not written.
    pub(crate) fn abandon(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Starts to bring what the guest prints into its log, as soon as that is there.
pub(crate) fn keep_console(
    shared: &Rc<Shared>,
    vm: Rc<dyn Vm>,
    console: Console,
    kept: Rc<Keep>,
    log: impl Future<Output = Option<Writer>> + 'static,
) -> Keeper {
    let of = {
        let shared = shared.clone();
        move |console: Console| {
            if let Err(error) = kept.put(&console) {
                shared
                    .journal
                    .note(format_args!("the console's connection cannot be kept for another shim: {error}"));
            }
            Line { output: console.output, input: console.input }
        }
    };
    let holds_back = vm.holds_console_back();
    let connect = {
        let of = of.clone();
        move || {
            let (vm, of) = (vm.clone(), of.clone());
            async move { vm.console().await.map(of).map_err(std::io::Error::other) }
        }
    };
    let shared = shared.clone();
    // Before the guest runs: what it prints then is not lost with us.
    let first = of(console);
    Keeper::start(|gone| async move {
        let log = log.await?;
        let capture = {
            let (shared, gone, connect) = (shared.clone(), gone.clone(), connect.clone());
            move |line, mut log: Writer| {
                let (shared, gone, connect) = (shared.clone(), gone.clone(), connect.clone());
                spawn_local(async move {
                    let mut note = noter(&shared, names::APP_LOG);
                    let mut on_event = |event| {
                        if holds_back || !matches!(event, Event::EndedFull) {
                            note(event);
                        }
                    };
                    tokio::select! {
                        () = capture_line(line, async || connect().await, &mut log, &shared.keyboard, &gone, &mut on_event) => {}
                        () = shared.discard.cancelled() => {}
                    }
                    log
                })
            }
        };
        keep(&shared, names::APP_LOG, (first, log), connect, capture, &gone).await
    })
}

/// Starts to bring what the VMM prints into its log.
pub(crate) fn keep_output(shared: &Rc<Shared>, output: OwnedFd, log: Writer) -> Keeper {
    let shared = shared.clone();
    Keeper::start(|gone| async move {
        let capture = {
            let (shared, gone) = (shared.clone(), gone.clone());
            move |output, mut log: Writer| {
                let (shared, gone) = (shared.clone(), gone.clone());
                spawn_local(async move {
                    let mut on_event = noter(&shared, names::VMM_LOG);
                    let result = tokio::select! {
                        result = capture(output, &mut log, &gone, &mut on_event) => result.map(drop),
                        () = shared.discard.cancelled() => Ok(()),
                    };
                    if let Err(error) = result {
                        shared.journal.note(format_args!("{}: {error}", names::VMM_LOG));
                    }
                    log
                })
            }
        };
        let reopen = async || vm::open_output();
        keep(&shared, names::VMM_LOG, (output, log), reopen, capture, &gone).await
    })
}

/// Reads a console that is connected already, for as long as this is waited for. Without one it
/// waits for ever.
pub(crate) fn keep_reading<'a>(
    shared: &Rc<Shared>,
    console: Option<&Console>,
    log: &'a mut Writer,
) -> Result<impl Future<Output = ()> + use<'a>> {
    let output = console.map(|console| console.output.try_clone()).transpose();
    let output = output.start("read the console")?;
    let mut on_event = noter(shared, names::APP_LOG);
    Ok(async move {
        if let Some(output) = output {
            // Whatever ends it, the next capture task meets it too.
            let _ = capture(output, log, &CancellationToken::new(), &mut on_event).await;
        }
        std::future::pending().await
    })
}

/// Brings into the log what a VMM has held back that keeps its paused guest's output from a slow
/// reader.
pub(crate) async fn take_rest(shared: &Rc<Shared>, vm: &dyn Vm, kept: &Keep, log: &mut Writer) -> Result<()> {
    let stopped = CancellationToken::new();
    stopped.cancel();
    let mut keep = |console: &Console| kept.put(console);
    loop {
        // Cloud Hypervisor sleeps for half a second when a client hangs up before it has another
        // (`thread::sleep` in `vmm/src/serial_manager.rs`, v53.0), and serves nobody in that time.
        let _before = kept.connection();
        let rest = vm.rest_of_console(&mut keep).await.start("read the rest of the console")?;
        let Some(console) = rest else { return Ok(()) };
        if keep::waiting(&console) == 0 {
            return Ok(());
        }
        let mut on_event = noter(shared, names::APP_LOG);
        capture(console.output, log, &stopped, &mut on_event).await.start("read the rest of the console")?;
    }
}

fn noter(shared: &Rc<Shared>, name: &'static str) -> impl FnMut(Event) + use<> {
    let shared = shared.clone();
    move |event| {
        if name == names::APP_LOG {
            shared.counts.set(counted(shared.counts.get(), &event));
        }
        if matches!(event, Event::Rotated(_)) {
            return; // a guest that floods would fill our own log with them
        }
        shared.journal.note(format_args!("{name}: {event}"));
        let stalled = match &event {
            Event::Stalled { error, loses_beyond: None } => Some(format!("its output waits: {error}")),
            Event::Stalled { error, loses_beyond: Some(limit) } => {
                Some(format!("output beyond {limit} bytes is lost: {error}"))
            }
            Event::Losing => Some("its output is being lost: the log has no room for it".to_owned()),
            Event::Resumed | Event::Lost(_) => None,
            _ => return,
        };
        if name == names::APP_LOG {
            shared.published.send_modify(|published| published.stalled = stalled);
        }
    }
}

/// Counts an event.
fn counted(mut counts: Counts, event: &Event) -> Counts {
    match event {
        Event::Lost(loss) => counts.lost = counts.lost.saturating_add(loss.bytes),
        Event::Rotated(times) => counts.rotations = counts.rotations.saturating_add(*times),
        Event::Stalled { .. } | Event::Paused(_) => counts.stalls = counts.stalls.saturating_add(1),
        _ => {}
    }
    counts
}

/// Captures, and begins anew with what can be had anew when a fault of ours has ended it: what was
/// in memory is lost then, and the rest is not.
async fn keep<S>(
    shared: &Shared,
    name: &str,
    first: (S, Writer),
    reopen: impl AsyncFn() -> std::io::Result<S>,
    capture: impl Fn(S, Writer) -> JoinHandle<Writer>,
    gone: &CancellationToken,
) -> Option<Writer> {
    let mut next = Some(first);
    while let Some((source, log)) = next {
        match capture(source, log).await {
            Ok(log) => return Some(log),
            Err(fault) => {
                shared
                    .journal
                    .note(format_args!("{name}: a fault of ours, some output may be missing: {fault}"));
            }
        }
        next = open_again(shared, name, &reopen, gone).await;
    }
    None
}

/// Opens source and log anew; `None` when there is nothing to capture any more.
async fn open_again<S>(
    shared: &Shared,
    name: &str,
    reopen: &impl AsyncFn() -> std::io::Result<S>,
    gone: &CancellationToken,
) -> Option<(S, Writer)> {
    while !gone.is_cancelled() && !shared.discard.is_cancelled() {
        if let (Ok(log), Ok(source)) = (open(&shared.launch, name), reopen().await) {
            return Some((source, log));
        }
        tokio::time::sleep(AGAIN).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::shared::tests::shared;

    #[test]
    fn a_fault_of_ours_does_not_end_the_capture() {
        let scratch = tempfile::tempdir().unwrap();
        let log = || {
            Writer::new(
                Log::open(&scratch.path().join("log"), Limits { max_size: 4096, max_files: 1 }).unwrap(),
                Buffer::new().unwrap(),
            )
        };
        let shared = shared(scratch.path());
        let path = scratch.path().join("log");
        let captures = Cell::new(0);
        let capture = |(), log| {
            captures.set(captures.get() + 1);
            let is_first = captures.get() == 1;
            spawn_local(async move {
                assert!(!is_first, "a fault");
                log
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kept = tokio::task::LocalSet::new().block_on(&runtime, async {
            let gone = CancellationToken::new();
            keep(&shared, path.to_str().unwrap(), ((), log()), async || Ok(()), capture, &gone).await
        });
        assert!(kept.is_some());
        assert_eq!(captures.get(), 2);
    }
}
