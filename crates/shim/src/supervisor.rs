//! The life of a VM from its start to the record of its end.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;

use hypeman_console::capture::capture;
use hypeman_console::line;
use hypeman_console::log::{Limits, Log};
use hypeman_console::writer::{Event, Writer};
use hypeman_record::end::{End, Reason, end};
use hypeman_record::format;
use hypeman_record::launch::Launch;
use hypeman_record::names;
use hypeman_record::protocol::Started;
use hypeman_record::run::{Ended, Run};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_blocking, spawn_local};
use tokio_util::sync::CancellationToken;

use crate::ending;
use crate::error::{Error, Result, StartContext};
use crate::halt;
use crate::journal::Journal;
use crate::memory;
use crate::process::{self, Identity};
use crate::schedule;
use crate::server;
use crate::shared::Shared;
use crate::vm::{self, Created};

/// Carries out the launch order in the current directory.
pub(crate) fn supervise(Identity { listener, alive }: Identity) -> Result<()> {
    let launch: Launch = format::read(Path::new(names::LAUNCH))
        .start("read the launch order")?
        .ok_or("there is none")
        .start("read the launch order")?;
    let journal = Journal::open(Path::new(names::HYPEMAN_LOG), limits(&launch)).start("open hypeman.log")?;
    let journal = Rc::new(journal);
    let auto_remove = launch.auto_remove;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().start("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, async {
        let result = live(listener, launch, journal.clone()).await;
        if let Err(error) = &result {
            journal.note(format_args!("not started: {error}"));
        }
        result
    });
    // With these the last writers end: from here on nothing of us is written in the directory, which others may remove as
    // soon as they have our lock.
    drop((runtime, journal));
    if auto_remove && result.is_ok() {
        ending::remove(&alive)?;
    }
    drop(alive);
    result
}

fn limits(launch: &Launch) -> Limits {
    Limits { max_size: launch.log.max_size, max_files: launch.log.max_files }
}

async fn live(listener: UnixListener, launch: Launch, journal: Rc<Journal>) -> Result<()> {
    outlive_signals()?;
    schedule::wake_soon();
    if let Some(note) = &launch.note {
        journal.note(note);
    }
    // Before anything runs: without its logs a VM is not started.
    let [app_log, vmm_log] = [open_log(&launch, names::APP_LOG)?, open_log(&launch, names::VMM_LOG)?];
    let Created { hypervisor, process, vm, console, vmm_output, run } = vm::create(&launch, &journal).await?;
    if let Err(error) = format::write(Path::new(names::RUN), &run).start("record the run") {
        vm::kill(&*hypervisor, &process).await;
        return Err(error);
    }
    let shared = Rc::new(Shared {
        launch,
        journal,
        vm: Mutex::new(vm),
        run,
        forced: Cell::new(false),
        halted: Cell::new(false),
        vmm_gone: CancellationToken::new(),
        discard: CancellationToken::new(),
        end: watch::Sender::new(None),
        control: RefCell::new(None),
    });
    let logs = [keep_console(&shared, console.output, app_log), keep_output(&shared, vmm_output, vmm_log)];
    if let Err(error) = shared.vm.lock().await.boot().await {
        vm::kill(&*hypervisor, &process).await;
        shared.vmm_gone.cancel();
        for log in logs {
            let _ = log.await;
        }
        let reason = vm::with_words(&vm::last_words_logged(), &error.to_string());
        record(&shared, end(Reason::StartFailed, 125, reason.clone())).await;
        return Err(Error::new(format!("boot the VM: {reason}")));
    }
    shared.journal.note("the guest runs");
    crate::say(&Started::Ready);
    process::close_stdout();
    // Aside, for the guest prints already, and some VMMs drop what is not taken at once.
    let _ = spawn_blocking(memory::give_back_startup_code).await;
    let server = spawn_local(server::serve(listener, shared.clone()));

    let halt = spawn_local(halt::end_when_halted(shared.clone()));
    let exit = process.ended().await;
    halt.abort();
    shared.vmm_gone.cancel();
    for log in logs {
        let _ = log.await; // a log that failed has said so in the journal
    }
    hypervisor.clean_up(Path::new("."));
    let end = ending::judge(&shared, exit).await;
    shared.journal.note(format_args!("ended: {}", end.message));
    record(&shared, end.clone()).await;
    shared.end.send_replace(Some(end));
    let _ = server.await; // ends when everyone has been answered
    Ok(())
}

/// The VM is stopped by requests, not by signals to its shim: a closed terminal or a careless `kill` must not end it.
fn outlive_signals() -> Result<()> {
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()] {
        // tokio's handler stays installed for the life of the process, also when nobody listens (tokio::signal).
        drop(signal(kind).start("set a signal handler")?);
    }
    Ok(())
}

fn open_log(launch: &Launch, name: &str) -> Result<Writer> {
    Log::open(Path::new(name), limits(launch)).map(Writer::new).start("open the log")
}

/// Starts a task that brings what the guest prints into its log, until the VMM has ended and all is written.
fn keep_console(shared: &Rc<Shared>, line: OwnedFd, mut log: Writer) -> JoinHandle<()> {
    let shared = shared.clone();
    spawn_local(async move {
        let mut on_event = |event: Event| shared.journal.note(format_args!("{}: {event}", names::APP_LOG));
        let connect = async || {
            let console = shared.vm.lock().await.console().await;
            console.map(|console| console.output).map_err(std::io::Error::other)
        };
        tokio::select! {
            () = line::capture_line(line, connect, &mut log, &shared.vmm_gone, &mut on_event) => {}
            () = shared.discard.cancelled() => {}
        }
    })
}

/// Starts a task that brings what the VMM prints into its log, until it has ended and all is written.
fn keep_output(shared: &Rc<Shared>, output: OwnedFd, mut log: Writer) -> JoinHandle<()> {
    let shared = shared.clone();
    spawn_local(async move {
        let mut on_event = |event: Event| shared.journal.note(format_args!("{}: {event}", names::VMM_LOG));
        let result = tokio::select! {
            result = capture(output, &mut log, &shared.vmm_gone, &mut on_event) => result,
            () = shared.discard.cancelled() => Ok(()),
        };
        if let Err(error) = result {
            shared.journal.note(format_args!("{}: {error}", names::VMM_LOG));
        }
    })
}

/// Records the end; on a full disk, as soon as there is room.
async fn record(shared: &Shared, end: End) {
    let ended = Ended { at: Timestamp::now(), end };
    let run = Run { end: Some(ended), ..shared.run.clone() };
    while let Err(error) = format::write(Path::new(names::RUN), &run) {
        shared.journal.note(format_args!("the end cannot be recorded yet: {error}"));
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            () = shared.discard.cancelled() => return,
        }
    }
}
