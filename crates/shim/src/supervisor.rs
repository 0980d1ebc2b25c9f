//! The life of a VM from its start to the record of its end, over as many boots as its guest wants.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hypeman_console::writer::Writer;
use hypeman_files::Lock;
use hypeman_guest::status;
use hypeman_record::end::{End, Evidence, Reason, end, judge};
use hypeman_record::format::{self, RELEASE};
use hypeman_record::launch::{Guest, Launch, OnReboot};
use hypeman_record::names;
use hypeman_record::process::Process;
use hypeman_record::protocol::Started;
use hypeman_record::run::{Adoption, Ended, Run};
use hypeman_vmm::process::VmmExit;
use hypeman_vmm::vm::{ShutdownReason, Vm, VmStatus};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_blocking, spawn_local};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Mode;
use crate::driver::Driver;
use crate::error::{Error, Result, StartContext};
use crate::journal::Journal;
use crate::keep::{self, Keep};
use crate::logs::{self, keep_console, keep_output};
use crate::memory;
use crate::policy::Phase;
use crate::process::{self, Identity};
use crate::schedule;
use crate::server;
use crate::shared::Shared;
use crate::vm::{self, Made, Vmm};

/// Most orders that wait for the driver, which takes each at once.
const MAX_ORDERS: usize = 16;

/// How long the last words of a VMM that has ended may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a shim that hands its VM over writes what it has read.
const HANDING_OVER: Duration = Duration::from_millis(200);

/// A guest that has run for so long before it reboots is booted again at once.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// First and longest pause before one is booted again that reboots sooner than that.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Carries out the launch order in the current directory, or goes on with it.
pub(crate) fn supervise(Identity { listener, alive }: Identity, mode: Mode) -> Result<()> {
    let launch: Launch = format::read(Path::new(names::LAUNCH))
        .start("read the launch order")?
        .ok_or("there is none")
        .start("read the launch order")?;
    let journal = Journal::open(Path::new(names::HYPEMAN_LOG), logs::limits(&launch));
    let journal = Rc::new(journal.start("open hypeman.log")?);
    let auto_remove = launch.auto_remove;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().start("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, async {
        let result = live(listener, launch, journal.clone(), mode).await;
        if let Err(error) = &result {
            let what = if mode == Mode::Start { "not started" } else { "not taken over" };
            journal.note(format_args!("{what}: {error}"));
        }
        result
    });
    // With these the last writers end: from here on nothing of us is written in the directory, which others may remove as
    // soon as they have our lock.
    drop((runtime, journal));
    if auto_remove && matches!(result, Ok(Lived::ToTheEnd)) {
        remove(&alive)?;
    }
    drop(alive);
    result.map(drop)
}

/// Removes the instance that was to be removed at its end.
fn remove(alive: &Lock) -> Result<()> {
    let directory = std::env::current_dir().start("find the instance's directory")?;
    hypeman_files::remove_directory(&directory, alive).start("remove the instance")
}

async fn live(listener: UnixListener, launch: Launch, journal: Rc<Journal>, mode: Mode) -> Result<Lived> {
    outlive_signals()?;
    schedule::wake_soon();
    let adopted = match mode {
        Mode::Start => None,
        Mode::Adopt => Some(taken_over(run_without_end()?, "had ended without it")?),
        Mode::Upgrade => Some(taken_over(run_without_end()?, "handed it over")?),
    };
    if let Some(note) = launch.note.as_ref().filter(|_| mode == Mode::Start) {
        journal.note(note);
    }
    let shared = Rc::new(Shared::new(launch, journal));
    let (orders, queue) = mpsc::channel(MAX_ORDERS);
    let server = spawn_local(server::serve(listener, shared.clone(), orders));
    let mut supervisor = Supervisor {
        driver: Driver::new(shared.clone(), queue),
        shared: shared.clone(),
        logs: Logs::default(),
        has_told: false,
    };
    let lived = supervisor.live(adopted).await;
    if matches!(lived, Ok(Lived::ToTheEnd)) {
        shared.enter(Phase::Ended);
    } else {
        server.abort();
    }
    let _ = server.await; // ends when everyone has been answered
    lived
}

/// The run of a VM that is to be taken over.
fn run_without_end() -> Result<Run> {
    let run = format::read::<Run>(Path::new(names::RUN)).start("read the run")?;
    run.filter(|run| run.end.is_none()).ok_or("there is none to be taken over").start("read the run")
}

/// The VM is stopped by requests, not by signals to its shim: a closed terminal or a careless `kill` must not end it.
fn outlive_signals() -> Result<()> {
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()] {
        // tokio's handler stays installed for the life of the process, also when nobody listens (tokio::signal).
        drop(signal(kind).start("set a signal handler")?);
    }
    Ok(())
}

/// Whoever lets a VM boot, live and end.
struct Supervisor {
    shared: Rc<Shared>,
    driver: Driver,
    logs: Logs,
    /// Whether our starter knows that the guest runs.
    has_told: bool,
}

/// The logs, while nobody writes to them.
#[derive(Default)]
struct Logs {
    app: Option<Writer>,
    vmm: Option<Writer>,
}

/// One boot of the VM and what became of it.
struct Boot {
    run: Run,
    end: End,
    /// Whether the guest has rebooted and is to be booted again.
    again: bool,
}

/// What has ended a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lived {
    ToTheEnd,
    HandedOver,
}

impl Supervisor {
    async fn live(&mut self, mut adopted: Option<Run>) -> Result<Lived> {
        let started = adopted.as_ref().map_or_else(Timestamp::now, |run| run.started);
        let mut pause = FIRST_PAUSE;
        let mut reboots = adopted.as_ref().map_or(0, |run| run.reboots);
        loop {
            let begun = Instant::now();
            let lived = match adopted.take() {
                Some(run) => self.take_over(run).await,
                None => self.boot(started, reboots).await,
            };
            let (run, end) = match lived {
                Err(error) if !self.has_told => return Err(error),
                // The record of the boot before is the one to be ended.
                Err(error) => match format::read::<Run>(Path::new(names::RUN)) {
                    Ok(Some(run)) if self.driver.force().is_some() => {
                        (run, end(Reason::Killed, 137, error.to_string()))
                    }
                    Ok(Some(run)) => (run, end(Reason::StartFailed, 125, error.to_string())),
                    _ => return Err(error),
                },
                Ok(None) => return Ok(Lived::HandedOver),
                Ok(Some(Boot { run, end, again: false })) => (run, end),
                Ok(Some(Boot { run, end, again: true })) => {
                    reboots += 1;
                    let wait = if begun.elapsed() >= GOOD_RUN { Duration::ZERO } else { pause };
                    pause = if wait.is_zero() { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                    self.shared
                        .journal
                        .note(format_args!("the guest rebooted: booting it again (reboot {reboots})"));
                    if self.shared.phase() < Phase::Ending
                        && self.driver.meanwhile(tokio::time::sleep(wait)).await.is_some()
                    {
                        continue;
                    }
                    (run, end)
                }
            };
            self.shared.journal.note(format_args!("ended: {}", end.message));
            self.record(run, end).await;
            return Ok(Lived::ToTheEnd);
        }
    }

    /// Boots the VM, and stays with it until its VMM has ended and all that it left is written.
    async fn boot(&mut self, started: Timestamp, reboots: u32) -> Result<Option<Boot>> {
        let shared = self.shared.clone();
        // Before anything runs: without its logs a VM is not started.
        let app = self.logs.app.take().map_or_else(|| logs::open(&shared.launch, names::APP_LOG), Ok)?;
        let log = self.logs.vmm.take().map_or_else(|| logs::open(&shared.launch, names::VMM_LOG), Ok)?;
        if reboots > 0 {
            forget_status(&shared.launch);
        }
        let keep = Keep::new().start("prepare the VMM")?;
        let vmm = Vmm::start(&shared.launch, &shared.journal, app.buffer(), &keep)?;
        let made = match self.driver.meanwhile(vmm.make(&shared.launch, started, reboots)).await {
            Some(made) => made.and_then(recorded),
            None => Err(Error::new("it was ended while it was being started".to_owned())),
        };
        match made {
            Ok(made) => {
                let vm = made.vm.clone();
                self.accompany(vmm, made, keep, [app, log], async move {
                    vm.boot().await.map_err(|e| e.to_string())
                })
                .await
            }
            Err(error) => {
                vmm.end().await;
                Err(error)
            }
        }
    }

    /// Goes on with a VM whose shim was killed. When that cannot be, the VM is left as it is.
    async fn take_over(&mut self, run: Run) -> Result<Option<Boot>> {
        let shared = self.shared.clone();
        let vmm = Vmm::adopt(&shared.launch, &run)?;
        let app = logs::take_over(&shared.launch, vmm.memory(), &shared.journal)?;
        let log = logs::open(&shared.launch, names::VMM_LOG)?;
        let from = run.adoptions.last().map(|adoption| adoption.reason.clone()).unwrap_or_default();
        // Nothing is kept of a FIFO, of which nothing is lost with its reader.
        let (keep, console, why_not) = match vmm.kept() {
            Ok((keep, console)) => (keep, Some(console), String::new()),
            Err(error) => (Keep::new().start("keep the console's connection")?, None, error.to_string()),
        };
        let was_full = console.as_ref().map(keep::is_full);
        let Some(made) = self.driver.meanwhile(vmm.connect_again(run, console)).await else {
            vmm.end().await;
            return Err(Error::new("it was ended while it was being taken over".to_owned()));
        };
        let made = made.and_then(recorded)?;
        shared.journal.note(format_args!("took over the VM, pid {}: {from}", made.run.vmm.pid));
        match was_full {
            Some(true) => shared.journal.note(
                "the console's connection was full: of what the guest has printed beyond it, a VMM that does not wait keeps 1 MiB",
            ),
            None if keep::is_socket(&made.console) => shared.journal.note(format_args!(
                "the console's connection was made anew, and what was in the old one is missing: {why_not}"
            )),
            Some(false) | None => {}
        }
        let has_booted = made.vm.status().borrow().booted;
        let runs = async move {
            has_booted.then_some(()).ok_or_else(|| "its shim was killed before its guest ran".to_owned())
        };
        self.accompany(vmm, made, keep, [app, log], runs).await
    }

    /// Stays with a VM that was made, until its VMM has ended and all that it left is written; or until it is to be handed over,
    /// and then there is no end to tell.
    async fn accompany(
        &mut self,
        vmm: Vmm,
        Made { vm, console, run }: Made,
        keep: Keep,
        [app, log]: [Writer; 2],
        boot: impl Future<Output = std::result::Result<(), String>>,
    ) -> Result<Option<Boot>> {
        let shared = self.shared.clone();
        let gone = CancellationToken::new();
        let output = match vmm.output.try_clone() {
            Ok(output) => output,
            Err(error) => {
                vmm.end().await;
                return Err(error).start("prepare the VMM's output");
            }
        };
        let keepers = [
            keep_console(&shared, vm.clone(), console, keep, app, &gone),
            keep_output(&shared, output, log, &gone),
        ];
        let booted = self.driver.meanwhile(boot).await;
        if let Some(Err(error)) = &booted {
            vmm.end().await;
            gone.cancel();
            self.collect(keepers).await;
            let reason = vm::with_words(&vm::last_words_logged(), error);
            self.record(run, end(Reason::StartFailed, 125, reason.clone())).await;
            return Err(Error::new(format!("boot the VM: {reason}")));
        }
        let exit = if booted.is_none() {
            vmm.end().await;
            vmm.process.ended().await
        } else {
            self.tell_that_it_runs();
            match self.driver.watch_over(vm.clone(), &vmm.process).await {
                Some(exit) => exit,
                None => {
                    self.hand_over(keepers, &gone).await;
                    return Ok(None);
                }
            }
        };
        gone.cancel();
        vmm.clean_up();
        let (end, again) = self.judge(&*vm, exit).await;
        if !again {
            self.shared.published.send_modify(|published| published.end = Some(end.clone()));
        }
        self.collect(keepers).await;
        Ok(Some(Boot { run, end, again }))
    }

    /// Leaves the VM as it runs. What cannot be written soon is the next shim's, which finds it in the memory that the VMM holds.
    async fn hand_over(&self, keepers: [JoinHandle<Option<Writer>>; 2], gone: &CancellationToken) {
        gone.cancel();
        let [app, vmm] = keepers.map(|keeper| (keeper.abort_handle(), keeper));
        let written = async { (app.1.await, vmm.1.await) };
        if tokio::time::timeout(HANDING_OVER, written).await.is_err() {
            app.0.abort();
            vmm.0.abort();
        }
        self.shared.journal.note("hands the VM over to another shim");
    }

    fn tell_that_it_runs(&mut self) {
        self.shared.journal.note("the guest runs");
        if !std::mem::replace(&mut self.has_told, true) {
            crate::say(&Started::Ready);
            process::close_stdout();
        }
        // Aside, for the guest prints already, and some VMMs drop what is not taken at once.
        drop(spawn_blocking(|| {
            memory::give_back_startup_code();
            let _ = format::sync(Path::new(names::RUN));
        }));
    }

    /// How it ended, and whether it is booted again. Enters the phase that follows.
    async fn judge(&self, vm: &dyn Vm, exit: VmmExit) -> (End, bool) {
        let told = told_at_last(vm).await;
        let shutdown = if self.driver.halted() { Some(ShutdownReason::GuestHalt) } else { told.shutdown };
        let status = hypeman_record::status::read(Path::new(names::STATUS));
        let end = judge(Evidence {
            guest: self.shared.launch.guest,
            status: status.as_ref(),
            shutdown,
            vmm: exit,
            force: self.driver.force(),
        });
        let again = end.reason == Reason::GuestReset
            && self.shared.launch.on_reboot == OnReboot::Restart
            && self.shared.phase() == Phase::Running;
        self.shared.published.send_modify(|published| {
            published.phase = if again { Phase::Booting } else { Phase::Draining };
            published.paused = None;
        });
        (end, again)
    }

    /// Waits until all that was captured is written.
    async fn collect(&mut self, keepers: [JoinHandle<Option<Writer>>; 2]) {
        let [app, vmm] = keepers;
        let both = async { (app.await.ok().flatten(), vmm.await.ok().flatten()) };
        let mut both = std::pin::pin!(both);
        let (app, vmm) = loop {
            // Whatever is ordered meanwhile, what was captured is waited for; who discards it has told its keepers so.
            if let Some(logs) = self.driver.meanwhile(&mut both).await {
                break logs;
            }
        };
        self.logs = Logs { app, vmm };
    }

    /// Records the end; on a full disk, as soon as there is room.
    async fn record(&mut self, run: Run, end: End) {
        let run = Run { end: Some(Ended { at: Timestamp::now(), end: end.clone() }), ..run };
        self.shared.published.send_modify(|published| {
            published.end.get_or_insert(end);
            published.phase = Phase::Draining;
        });
        while let Err(error) = format::write(Path::new(names::RUN), &run) {
            self.shared.journal.note(format_args!("the end cannot be recorded yet: {error}"));
            let discard = self.shared.discard.clone();
            let wait = tokio::time::timeout(Duration::from_secs(1), discard.cancelled());
            if let Some(Ok(())) = self.driver.meanwhile(wait).await {
                return;
            }
        }
    }
}

/// The run as it is with this shim.
fn taken_over(mut run: Run, why: &str) -> Result<Run> {
    let me = Process::find(std::process::id()).ok_or("it has no entry in /proc").start("find this shim")?;
    run.adoptions.push(Adoption {
        at: Timestamp::now(),
        reason: format!("its shim, pid {}, {why}", run.shim.pid),
        from: run.shim,
        release: RELEASE.to_owned(),
    });
    run.shim = me;
    Ok(run)
}

/// The made VM, when its run is recorded: others are to find it.
fn recorded(made: Made) -> Result<Made> {
    format::write_unsynced(Path::new(names::RUN), &made.run).start("record the run")?;
    Ok(made)
}

/// What the VMM has told at last; all of it, if that comes in time.
async fn told_at_last(vm: &dyn Vm) -> VmStatus {
    let mut status = vm.status();
    let _ = tokio::time::timeout(LAST_WORDS, status.wait_for(|status| status.is_last)).await;
    status.borrow().clone()
}

/// What init has reported before a reboot is not true of the next boot. In place, which needs no room on a full disk.
fn forget_status(launch: &Launch) {
    if launch.guest != Guest::Bare
        && let Ok(mut disk) = std::fs::File::options().write(true).open(names::STATUS)
    {
        let _ =
            std::io::Write::write_all(&mut disk, &vec![0; usize::try_from(status::DISK_SIZE).unwrap_or(0)]);
    }
}
