//! The life of a VM from its start to the record of its end, over as many boots as its guest wants.

mod adoption;
mod ending;
mod run;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hypeman_console::writer::Writer;
use hypeman_files::Lock;
use hypeman_record::end::{End, Reason, end};
use hypeman_record::guest::status;
use hypeman_record::kind::Kind;
use hypeman_record::launch::{Guest, Launch};
use hypeman_record::protocol::Started;
use hypeman_record::run::Run;
use hypeman_record::{format, names};
use hypeman_snapshot::standby;
use hypeman_vmm::hypervisor::Origin;
use jiff::Timestamp;
use run::{run_without_end, taken_over};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::begin::begin;
use crate::driver::{Driver, Left};
use crate::error::{Error, Result, StartContext};
use crate::journal::Journal;
use crate::keep::Keep;
use crate::logs::{self, Keeper, keep_console, keep_output};
use crate::mode::Mode;
use crate::network::{self, Network};
use crate::policy::Phase;
use crate::process::{self, Identity};
use crate::shared::Shared;
use crate::standby::Suspension;
use crate::vm::{self, Begun, Made, Vmm};
use crate::{memory, order, schedule, server, session};

/// Maximum number of orders that wait for the driver, which takes each at once.
const MAX_ORDERS: usize = 16;

/// How long a shim that hands its VM over writes what it has read.
const HANDING_OVER: Duration = Duration::from_millis(200);

/// Timeout for passt to notice that its VMM has ended.
const HANGING_UP: Duration = Duration::from_secs(1);

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
    let port = launch.network.as_ref().and_then(|network| network.port.as_ref());
    let on_network = port.map(|port| port.network.clone());
    // Netlink's conversations are had before ours begin.
    let network = match mode {
        Mode::Start | Mode::Restore => Network::connect(&launch, &journal),
        Mode::Adopt | Mode::Upgrade => Ok(Network::default()),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().start("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, async {
        let result = live(listener, launch, journal.clone(), network, mode).await;
        if let Err(error) = &result {
            let what = match mode {
                Mode::Start => "not started",
                Mode::Restore => "not restored",
                Mode::Adopt | Mode::Upgrade => "not taken over",
            };
            journal.note(format_args!("{what}: {error}"));
        }
        result
    });
    // With these the last writers end: from here on nothing of us is written in the directory,
    // which others may remove as soon as they have our lock.
    drop((runtime, journal));
    // The file is gone if the VM has ended; it is there if the VM could not be started or was not
    // started here.
    if matches!(
        (&result, mode),
        (Ok(Outcome::ToTheEnd | Outcome::ToStandby), _) | (Err(_), Mode::Start | Mode::Restore)
    ) {
        network::detach();
    }
    if auto_remove && matches!(result, Ok(Outcome::ToTheEnd)) {
        remove(&alive, on_network.as_deref())?;
    }
    drop(alive);
    result.map(drop)
}

/// Removes the network of an instance that was to be removed at its end, if it was made for it, and
/// the instance.
fn remove(alive: &Lock, network: Option<&str>) -> Result<()> {
    let directory = std::env::current_dir().start("find the instance's directory")?;
    // The instance last: a process that waits for its removal finds neither.
    if let (Some(name), Some(networks)) = (network, network::networks()) {
        let _ = hypeman_network::remove_if_unused(&networks, name, &directory); // else it stays, as others do
    }
    hypeman_files::remove_directory(&directory, alive).start("remove the instance")
}

async fn live(
    listener: UnixListener,
    launch: Launch,
    journal: Rc<Journal>,
    network: Result<Network>,
    mode: Mode,
) -> Result<Outcome> {
    let network = network?;
    outlive_signals()?;
    schedule::wake_soon();
    let adopted = match mode {
        Mode::Start | Mode::Restore => None,
        Mode::Adopt => Some(taken_over(run_without_end()?, "had ended without it")?),
        Mode::Upgrade => Some(taken_over(run_without_end()?, "handed it over")?),
    };
    if let Some(note) = launch.note.as_ref().filter(|_| mode == Mode::Start) {
        journal.note(note);
    }
    let shared = Rc::new(Shared::new(launch, journal));
    if adopted.is_some() {
        shared.enter(Phase::Adopting);
    }
    let (orders, queue) = mpsc::channel(MAX_ORDERS);
    let server = spawn_local(server::serve(listener, shared.clone(), orders));
    let mut supervisor = Supervisor {
        restores: mode == Mode::Restore,
        driver: Driver::new(shared.clone(), queue),
        shared: shared.clone(),
        logs: Logs::default(),
        network,
        has_told: false,
    };
    let lived = supervisor.live(adopted).await;
    drop(supervisor); // with its queue: whoever has ordered something too late is answered
    if matches!(lived, Ok(Outcome::ToTheEnd | Outcome::ToStandby)) {
        shared.enter(Phase::Ended);
    } else {
        server.abort();
    }
    let _ = server.await; // ends when everyone has been answered
    lived
}

/// The VM is stopped by requests, not by signals to its shim: a closed terminal or a careless
/// `kill` must not end it.
fn outlive_signals() -> Result<()> {
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()] {
        // tokio's handler stays installed for the life of the process, also when nobody listens
        // (tokio::signal).
        drop(signal(kind).start("set a signal handler")?);
    }
    Ok(())
}

/// Supervisor of a VM's boots and its end.
struct Supervisor {
    shared: Rc<Shared>,
    driver: Driver,
    /// Whether the guest is to go on from its snapshot, and not to boot.
    restores: bool,
    logs: Logs,
    network: Network,
    /// Whether our starter knows that the guest runs.
    has_told: bool,
}

/// The logs, while nobody writes to them.
#[derive(Default)]
struct Logs {
    app: Option<Writer>,
    vmm: Option<Writer>,
}

/// Result of one boot of the VM.
enum Boot {
    /// It has ended.
    Ended {
        run: Run,
        end: End,
        /// Whether the guest has rebooted and is to be booted again.
        again: bool,
    },
    /// Its memory is saved.
    Asleep(Run),
    /// Another shim is to have it.
    HandedOver,
}

/// Reason why a shim ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    ToTheEnd,
    ToStandby,
    HandedOver,
}

impl Supervisor {
    async fn live(&mut self, mut adopted: Option<Run>) -> Result<Outcome> {
        // One that goes on from standby has run since before that; a fork has no record of it.
        let last = || format::read::<Run>(Path::new(names::RUN)).ok().flatten().filter(|_| self.restores);
        let started = adopted.clone().or_else(last).map_or_else(Timestamp::now, |run| run.started);
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
                Ok(Boot::HandedOver) => return Ok(Outcome::HandedOver),
                Ok(Boot::Asleep(run)) => {
                    self.record_sleep(run);
                    return Ok(Outcome::ToStandby);
                }
                Ok(Boot::Ended { run, end, again: false }) => (run, end),
                Ok(Boot::Ended { run, end, again: true }) => {
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
            return Ok(Outcome::ToTheEnd);
        }
    }

    /// Boots the VM, and stays with it until its VMM has ended and all that it left is written.
    async fn boot(&mut self, started: Timestamp, reboots: u32) -> Result<Boot> {
        let shared = self.shared.clone();
        // Before anything runs: without its logs a VM is not started.
        let app = self.logs.app.take().map_or_else(|| logs::open(&shared.launch, names::APP_LOG), Ok)?;
        let log = self.logs.vmm.take().map_or_else(|| logs::open(&shared.launch, names::VMM_LOG), Ok)?;
        if reboots > 0 {
            forget_status(&shared.launch);
        }
        let keep = Keep::new().start("prepare the VMM")?;
        let restores = std::mem::take(&mut self.restores);
        let origin = if restores { Origin::Restore(Path::new(standby::WHOLE)) } else { Origin::Boot };
        let app = if restores { app } else { app.beginning_line() };
        let mut vmm =
            Vmm::start(&shared.launch, origin, &shared.journal, app.buffer(), &keep, &self.network)?;
        let begun = Begun { started, reboots, published: self.network.published.clone() };
        // While the VMM reads it.
        let verified = restores.then(|| spawn_blocking(|| standby::verify(Path::new("."))));
        let made = match self.driver.meanwhile(vmm.make(&shared.launch, origin, begun)).await {
            Some(made) => made.and_then(recorded),
            None => Err(Error::new(Kind::WrongState, "it was ended while it was being started")),
        };
        vmm.let_go_of_network();
        let made = match made {
            Ok(made) => self.network.ruled().await.map(|()| made),
            failed => failed,
        };
        match made {
            Ok(made) => {
                if restores {
                    self.driver.expect_sleeper();
                }
                let begin = begin(made.vm.clone(), verified);
                self.accompany(vmm, made, keep, [app, log], begin).await
            }
            Err(error) => {
                vmm.end().await;
                // The damage is the reason, and what the VMM says of it is not.
                if let Some(verified) = verified {
                    verified.await.start("verify the snapshot")?.start("restore the VM")?;
                }
                Err(error)
            }
        }
    }

    /// Stays with a VM that was made, until its VMM has ended and all that it left is written; or
    /// until it is to be handed over, and then there is no end to tell.
    async fn accompany(
        &mut self,
        mut vmm: Vmm,
        Made { vm, console, run }: Made,
        keep: Keep,
        [app, log]: [Writer; 2],
        boot: impl Future<Output = Result<()>>,
    ) -> Result<Boot> {
        let shared = self.shared.clone();
        let output = match vmm.output.try_clone() {
            Ok(output) => output,
            Err(error) => {
                vmm.end().await;
                return Err(error).start("prepare the VMM's output");
            }
        };
        let kept = Rc::new(keep);
        let app = std::future::ready(Some(app));
        let mut console = keep_console(&shared, vm.clone(), console, kept.clone(), app);
        let output = keep_output(&shared, output, log);
        self.network.serve(&shared.journal);
        let passt = vmm.passt.take().map(|passt| {
            AbortOnDropHandle::new(spawn_local(vm::watch_passt(passt, vmm.process.clone(), shared.clone())))
        });
        let booted = self.driver.meanwhile(boot).await;
        let _agent = AbortOnDropHandle::new(spawn_local(session::keep(vm.clone(), shared.clone())));
        if let Some(Err(error)) = &booted {
            vmm.end().await;
            self.collect([console, output]).await;
            let reason = vm::with_words(&vm::last_words_logged(), &error.reason);
            let is_asleep = standby::put_back(Path::new(".")).unwrap_or(false);
            if is_asleep {
                self.record_sleep(run);
            } else {
                self.record(run, end(Reason::StartFailed, 125, reason.clone())).await;
            }
            return Err(Error::new(error.kind, format_args!("boot the VM: {reason}")));
        }
        let exit = if booted.is_none() {
            vmm.end().await;
            vmm.process.ended().await
        } else {
            self.tell_that_it_runs();
            loop {
                match self.driver.watch_over(vm.clone(), &vmm.process).await {
                    Left::Ended(exit) => break exit,
                    Left::ForHandOver => {
                        self.hand_over([console, output]).await;
                        return Ok(Boot::HandedOver);
                    }
                    Left::ForStandby(asker) => {
                        let suspension = Suspension { shared: &shared, vmm: &vmm, vm: &vm, kept: &kept };
                        match suspension.save(&mut self.driver, console).await {
                            Ok(()) => {
                                suspension.quit(&mut self.driver).await;
                                return self.sleep(vmm, run, output, asker).await;
                            }
                            Err((error, keeper)) => {
                                console = keeper;
                                let _ = asker.send(Err(order::Error::Standby(error)));
                            }
                        }
                    }
                }
            }
        };
        vmm.clean_up();
        if let Some(passt) = passt {
            let _ = tokio::time::timeout(HANGING_UP, passt).await; // the next one wants its ports
        }
        let (end, again) = self.judge(&*vm, exit).await;
        if !again {
            self.network.detach().await;
            self.shared.published.send_modify(|published| published.end = Some(end.clone()));
        }
        let [app, vmm] = self.collect([console, output]).await;
        self.logs = Logs { app, vmm };
        Ok(Boot::Ended { run, end, again })
    }

    /// After the VMM of a VM has quit whose snapshot is whole. One that was to be killed meanwhile
    /// is not to go on from it.
    async fn sleep(
        &mut self,
        vmm: Vmm,
        run: Run,
        output: Keeper,
        asker: oneshot::Sender<order::Result<()>>,
    ) -> Result<Boot> {
        vmm.clean_up();
        self.network.detach().await;
        self.shared.enter(Phase::Draining);
        self.collect([output]).await;
        if self.driver.force().is_some() && standby::withdraw(Path::new(".")).is_ok() {
            let end = end(Reason::Killed, 137, "the VM was ended by force, as asked".to_owned());
            return Ok(Boot::Ended { run, end, again: false });
        }
        self.shared.journal.note("the VM is in standby");
        let _ = asker.send(Ok(())); // whoever asked may have hung up
        Ok(Boot::Asleep(run))
    }

    /// Leaves the VM as it runs. What cannot be written soon is the next shim's, which finds it in
    /// the memory that the VMM holds.
    async fn hand_over(&self, mut keepers: [Keeper; 2]) {
        keepers.iter().for_each(Keeper::stop);
        let written = async {
            for keeper in &mut keepers {
                keeper.finish().await;
            }
        };
        if tokio::time::timeout(HANDING_OVER, written).await.is_err() {
            keepers.iter().for_each(Keeper::abandon);
        }
        self.shared.journal.note("hands the VM over to another shim");
    }

    fn tell_that_it_runs(&mut self) {
        self.shared.journal.note("the guest runs");
        if !std::mem::replace(&mut self.has_told, true) {
            process::say(&Started::Ready);
            process::close_stdout();
        }
        // Aside, for the guest prints already, and some VMMs drop what is not taken at once.
        drop(spawn_blocking(|| {
            let _ = hypeman_confine::cgroup::leave_starter(); // else it lives as long as its starter's service
            memory::give_back_startup_code();
            let _ = format::sync(Path::new(names::RUN));
        }));
    }

    /// Waits until all that was captured is written.
    async fn collect<const N: usize>(&mut self, mut keepers: [Keeper; N]) -> [Option<Writer>; N] {
        let mut logs = Vec::new();
        keepers.iter().for_each(Keeper::stop);
        for keeper in &mut keepers {
            let mut finished = std::pin::pin!(keeper.finish());
            let log = loop {
                // Whatever is ordered meanwhile, what was captured is waited for; who discards it
                // has told its keepers so.
                if let Some(log) = self.driver.meanwhile(&mut finished).await {
                    break log;
                }
            };
            logs.push(log);
        }
        logs.try_into().unwrap_or_else(|_| std::array::from_fn(|_| None))
    }
}

/// The made VM, when its run is recorded: others are to find it.
fn recorded(made: Made) -> Result<Made> {
    format::write_unsynced(Path::new(names::RUN), &made.run).start("record the run")?;
    Ok(made)
}

/// Clears init's report before a reboot, which is not true of the next boot. In place, which needs
/// no room on a full disk.
fn forget_status(launch: &Launch) {
    if launch.guest != Guest::Bare
        && let Ok(mut disk) = std::fs::File::options().write(true).open(names::STATUS)
    {
        let _ =
            std::io::Write::write_all(&mut disk, &vec![0; usize::try_from(status::DISK_SIZE).unwrap_or(0)]);
    }
}
